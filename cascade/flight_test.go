package cascade

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/cascade/index"
	"github.com/headwater-cloud/headwater/sites"
	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// Servers that needed an image which was on its way to their site waited for the whole copy, each in a place among the
// few jobs that a site is given at once: nothing else was made or deleted there meanwhile.
func TestWaitersComeBackLater(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		row := r.create(sites.Volume)
		begun, release := make(chan struct{}), make(chan struct{})
		r.site.decide(func(keep func() sites.Object) (sites.Object, error) {
			close(begun)
			<-release
			return keep(), nil
		})
		var g errgroup.Group
		var first ident.BottomID
		g.Go(func() (err error) {
			first, err = r.Ensure(t.Context(), east, row.ID)
			return err
		})
		<-begun
		began := time.Now()
		var wait *WaitError
		if _, err := r.Ensure(t.Context(), east, row.ID); !errors.As(err, &wait) || time.Since(began) > 10*shareWait {
			t.Errorf("the second one got %v after %v, want a *WaitError", err, time.Since(began))
		}
		close(release)
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		if again, err := r.Ensure(t.Context(), east, row.ID); err != nil || again != first {
			t.Errorf("later = %s, %v; want %s", again, err, first)
		}
		if _, creates := r.site.count(); creates != 1 {
			t.Errorf("%d creates", creates)
		}
	})
}

// What panics while making one thing ends that one, not Top.
func TestPanicInMaking(t *testing.T) {
	each(t, func(t *testing.T, r *rig) {
		row := r.create(sites.Volume)
		r.maker.needs = func(*index.Resource) ([]ident.TopID, error) { panic("a maker's bug") }
		if _, err := r.Ensure(t.Context(), east, row.ID); !fault.Is(err, fault.Internal) {
			t.Errorf("Ensure = %v", err)
		}
	})
}
