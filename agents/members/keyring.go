package members

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"

	"github.com/hashicorp/memberlist"

	"github.com/headwater-cloud/headwater/sites/fault"
	"github.com/headwater-cloud/headwater/sites/ident"
)

// A key is replaced without a restart in three steps, each at every member before the next one: AddKey the new one, UseKey it, RemoveKey the
// old one. The configuration that the next start reads is for the caller to keep.

// AddKey has the pool understand what is encrypted by a key, base64 of 16, 24 or 32 bytes.
func (p *Pool) AddKey(k ident.Secret) error {
	raw, err := decodeKey(k)
	if err != nil {
		return fault.Wrap(fault.BadRequest, "agents/members.AddKey", err)
	}
	p.keysMu.Lock()
	defer p.keysMu.Unlock()
	return fault.Wrap(fault.BadRequest, "agents/members.AddKey", p.keys.AddKey(raw))
}

// UseKey has the pool encrypt by a key that was added. Members that do not have it yet lose touch.
func (p *Pool) UseKey(k ident.Secret) error {
	raw, err := decodeKey(k)
	if err != nil {
		return fault.Wrap(fault.BadRequest, "agents/members.UseKey", err)
	}
	p.keysMu.Lock()
	defer p.keysMu.Unlock()
	return fault.Wrap(fault.NotFound, "agents/members.UseKey", p.keys.UseKey(raw))
}

// RemoveKey has the pool forget a key, or returns fault.Conflict where it is the one that encrypts. A key that is not there is no error.
func (p *Pool) RemoveKey(k ident.Secret) error {
	raw, err := decodeKey(k)
	if err != nil {
		return fault.Wrap(fault.BadRequest, "agents/members.RemoveKey", err)
	}
	p.keysMu.Lock()
	defer p.keysMu.Unlock()
	return removeKey(p.keys, raw)
}

// removeKey takes a key off the ring. The ring's own RemoveKey shifts the later keys within the array that a decrypting goroutine may be
// reading: only the last key can go safely. So those behind it go first and come again at once; the key that encrypts stays throughout.
func removeKey(ring *memberlist.Keyring, key []byte) error {
	keys := ring.GetKeys() // nobody writes to this array any more
	if bytes.Equal(keys[0], key) {
		return fault.New(fault.Conflict, "agents/members.RemoveKey", "the key encrypts: use another one first")
	}
	at := 0
	for i, k := range keys {
		if bytes.Equal(k, key) {
			at = i
		}
	}
	if at == 0 {
		return nil
	}
	for i := len(keys) - 1; i >= at; i-- {
		if err := ring.RemoveKey(keys[i]); err != nil {
			return fault.Wrap(fault.Internal, "agents/members.RemoveKey", err)
		}
	}
	for _, k := range keys[at+1:] {
		if err := ring.AddKey(k); err != nil {
			return fault.Wrap(fault.Internal, "agents/members.RemoveKey", err)
		}
	}
	return nil
}

// Keys are the fingerprints of the keys, the one that encrypts first: 16 hexadecimal digits of each key's SHA-256.
func (p *Pool) Keys() []string {
	p.keysMu.Lock()
	defer p.keysMu.Unlock()
	var prints []string
	for _, k := range p.keys.GetKeys() {
		sum := sha256.Sum256(k)
		prints = append(prints, hex.EncodeToString(sum[:8]))
	}
	return prints
}
