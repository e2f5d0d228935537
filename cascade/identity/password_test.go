package identity

import (
	"strings"
	"testing"
)

func TestPasswordHash(t *testing.T) {
	t.Parallel()
	h := newHasher(1)
	stored, err := h.hash(t.Context(), "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(stored, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("stored as %s", stored)
	}
	if again, _ := h.hash(t.Context(), "correct horse"); again == stored {
		t.Error("two hashes of one password are equal: no salt")
	}
	for _, tt := range []struct {
		name, stored, password string
		want, bad              bool
	}{
		{name: "right", stored: stored, password: "correct horse", want: true},
		{name: "wrong", stored: stored, password: "correct horsf"},
		{name: "nobody", stored: "", password: ""},
		{name: "random secret", stored: hashRandom("abc"), password: "abc", want: true},
		{name: "wrong random secret", stored: hashRandom("abc"), password: "abd"},
		{name: "unknown form", stored: "$2b$12$xyz", password: "x", bad: true},
		{name: "malformed", stored: "$argon2id$v=19$m=1,t=0,p=0$AAAA$AAAA", password: "x", bad: true},
	} {
		got, err := h.verify(t.Context(), tt.stored, tt.password, nil)
		if got != tt.want || (err != nil) != tt.bad {
			t.Errorf("%s: verify = %v, %v", tt.name, got, err)
		}
	}
}
