package members

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// TestAnyHistory: whatever has happened, once nothing happens any more all members see the same, and the truth.
func TestAnyHistory(t *testing.T) {
	histories := uint64(40)
	if testing.Short() {
		histories = 8
	}
	for seed := range histories {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fabric) {
				h := &history{t: t, f: f, rand: rand.New(rand.NewPCG(seed, 0)), up: map[int]*running{}, said: map[int]string{}}
				for range 40 {
					h.step()
				}
				h.settle()
			})
		})
	}
}

// history is a random one of eight members, of which the first two are the seeds.
type history struct {
	t    *testing.T
	f    *fabric
	rand *rand.Rand
	up   map[int]*running
	said map[int]string // the version that each announces
	told []string
}

func (h *history) note(format string, args ...any) {
	h.told = append(h.told, fmt.Sprintf(format, args...))
}

// step has one thing happen, and some time pass.
func (h *history) step() {
	i := 1 + h.rand.IntN(8)
	r := h.up[i]
	switch h.rand.IntN(10) {
	case 0, 1, 2, 3:
		if r == nil {
			h.note("start %d", i)
			h.up[i], h.said[i] = h.f.start(h.t, i, nil), "1.0"
		} else {
			h.said[i] = fmt.Sprint(len(h.told))
			h.note("update %d", i)
			if err := r.Update(func(m *Meta) { m.Agent = h.said[i] }); err != nil {
				h.t.Fatal(err)
			}
		}
	case 4:
		if r != nil {
			h.note("leave %d", i)
			h.end(i, nil)
		}
	case 5:
		if r != nil {
			h.note("restart %d", i)
			h.end(i, ErrStay)
			h.up[i], h.said[i] = h.f.start(h.t, i, nil), "1.0"
		}
	case 6:
		if r != nil {
			h.note("kill %d", i)
			h.f.kill(r)
			delete(h.up, i)
		}
	case 7, 8:
		side := h.rand.Uint32()
		h.note("apart %08b", byte(side))
		h.f.apart(func(a netip.AddrPort) bool { return side>>(a.Addr().As4()[3])&1 == 0 })
	case 9:
		h.note("heal")
		h.f.heal()
		h.f.set(func() { h.f.loss = h.rand.Float64() / 4 })
	}
	step(time.Duration(h.rand.Int64N(int64(20 * time.Second))))
}

func (h *history) end(i int, cause error) {
	if err := h.up[i].end(cause); err != nil {
		h.t.Errorf("Run of %d: %v", i, err)
	}
	delete(h.up, i)
}

// settle mends the network and waits until all see the truth.
func (h *history) settle() {
	h.f.heal()
	h.f.set(func() { h.f.loss = 0 })
	for _, i := range []int{1, 2} { // where no seed and nobody that was known is left, nobody can find anybody
		if h.up[i] == nil {
			h.up[i], h.said[i] = h.f.start(h.t, i, nil), "1.0"
		}
	}
	var numbers []int
	var all []*running
	for i := 1; i <= 8; i++ {
		if h.up[i] != nil {
			numbers, all = append(numbers, i), append(all, h.up[i])
		}
	}
	h.note("settle %d", numbers)
	began := time.Now()
	for !h.true(all, numbers) {
		if time.Since(began) > 3*time.Minute {
			for _, r := range all {
				h.t.Logf("%s sees %+v", r.id, r.View().members)
			}
			h.t.Fatalf("no agreement on %d after %q", numbers, h.told)
		}
		step(100 * time.Millisecond)
	}
	endAll(h.t, all)
}

func (h *history) true(all []*running, numbers []int) bool {
	if !allSee(all, numbers...)() {
		return false
	}
	for _, r := range all {
		for _, i := range numbers {
			if m, _ := r.View().Member(member(i)); m.Agent != h.said[i] {
				return false
			}
		}
	}
	return true
}
