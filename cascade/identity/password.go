package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"runtime"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/sync/semaphore"
)

// The cost of a password hash: OWASP's Password Storage Cheat Sheet, argon2id
// with 19 MiB, 2 passes and 1 lane; about 25 ms of one core. RFC 9106's own second choice
// takes 64 MiB, which a burst of logins could not have.
const (
	argonMemory = 19 * 1024 // KiB
	argonPasses = 2
	argonLanes  = 1
	argonSalt   = 16 // bytes, RFC 9106 section 3.1
	argonKey    = 32 // bytes
	maxSlots    = 4
)

const (
	argonPrefix  = "$argon2id$"
	sha256Prefix = "$sha256$"
)

// hasher hashes passwords, a bounded number at once: each costs argonMemory.
type hasher struct {
	slots *semaphore.Weighted
	dummy string // the hash of a password that nobody has
}

func newHasher(slots int) *hasher {
	if slots == 0 {
		slots = min(runtime.GOMAXPROCS(0), maxSlots)
	}
	h := &hasher{slots: semaphore.NewWeighted(int64(slots))}
	h.dummy = encodeArgon(make([]byte, argonSalt), make([]byte, argonKey))
	return h
}

// hash returns the stored form of a password. It waits for a slot or for ctx.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, argonSalt)
	_, _ = rand.Read(salt) // never fails: crypto/rand.Read aborts the program instead (Go 1.24)
	key, err := h.key(ctx, password, salt, cost{argonMemory, argonPasses, argonLanes}, nil)
	if err != nil {
		return "", err
	}
	return encodeArgon(salt, key), nil
}

// verify reports whether the password is the one that stored was made from. An
// empty stored form costs as much as a real one and never fits, so that the
// time of an answer does not tell which users exist. Allow, which may be nil, is
// asked when the turn to hash has come, so that those who waited meanwhile are counted too.
func (h *hasher) verify(ctx context.Context, stored, password string, allow func() error) (bool, error) {
	if rest, ok := strings.CutPrefix(stored, sha256Prefix); ok {
		if allow != nil {
			if err := allow(); err != nil {
				return false, err
			}
		}
		return subtle.ConstantTimeCompare([]byte(rest), []byte(digest(password))) == 1, nil
	}
	real := stored != ""
	if !real {
		stored = h.dummy
	}
	var by cost
	parts := strings.Split(stored, "$")
	if len(parts) != 6 || parts[1] != "argon2id" {
		return false, fmt.Errorf("stored password hash: unknown form")
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &by.memory, &by.passes, &by.lanes); err != nil {
		return false, fmt.Errorf("stored password hash: %w", err)
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(parts[4])
	want, err2 := base64.RawStdEncoding.DecodeString(parts[5])
	if err1 != nil || err2 != nil || by.passes < 1 || by.lanes < 1 || by.memory > 1<<20 {
		return false, fmt.Errorf("stored password hash: malformed")
	}
	got, err := h.key(ctx, password, salt, by, allow)
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(got, want) == 1 && real, nil
}

type cost struct {
	memory, passes uint32
	lanes          uint8
}

func (h *hasher) key(ctx context.Context, password string, salt []byte, by cost, allow func() error) ([]byte, error) {
	if err := h.slots.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("wait to hash a password: %w", err)
	}
	defer h.slots.Release(1)
	if allow != nil {
		if err := allow(); err != nil {
			return nil, err
		}
	}
	return argon2.IDKey([]byte(password), salt, by.passes, by.memory, by.lanes, argonKey), nil
}

// encodeArgon writes the PHC string format, which every argon2 library reads.
func encodeArgon(salt, key []byte) string {
	enc := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("%sv=%d$m=%d,t=%d,p=%d$%s$%s", argonPrefix, argon2.Version, argonMemory, argonPasses, argonLanes, enc(salt), enc(key))
}

// hashRandom returns the stored form of a secret that we made of 256 random bits or more: nobody
// can guess those, so a slow hash would only make every login by application credential slow.
func hashRandom(secret string) string { return sha256Prefix + digest(secret) }

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// random returns n random bytes as text of [A-Za-z0-9_-].
func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}
