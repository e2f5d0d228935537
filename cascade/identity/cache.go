package identity

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"sync"
	"time"
)

const (
	cacheShards = 64
	shardSize   = 2048 // tokens; a full shard is emptied, which costs one query for each token in use
)

// cache remembers what tokens stand for. What it says is at most CacheFor old
// and never older than the last change made in this process.
type cache struct {
	now    func() time.Time
	shards [cacheShards]shard
}

type shard struct {
	mu    sync.RWMutex // guards the fields below
	epoch uint64       // raised by each change that may concern one of the tokens
	held  map[[sha256.Size]byte]cached
}

type cached struct {
	token *Token
	until time.Time
}

func newCache(now func() time.Time) *cache {
	c := &cache{now: now}
	for i := range c.shards {
		c.shards[i].held = map[[sha256.Size]byte]cached{}
	}
	return c
}

func (c *cache) shard(key [sha256.Size]byte) *shard { return &c.shards[key[0]%cacheShards] }

// get returns the token, or nil and the epoch to hand to put.
func (c *cache) get(key [sha256.Size]byte) (*Token, uint64) {
	s := c.shard(key)
	s.mu.RLock()
	e, ok := s.held[key]
	epoch := s.epoch
	s.mu.RUnlock()
	if ok && c.now().Before(e.until) {
		return e.token, epoch
	}
	return nil, epoch
}

// put remembers a token that was read after get returned the epoch; if something
// changed in between, what was read may be old, and is not kept.
func (c *cache) put(key [sha256.Size]byte, epoch uint64, t *Token) {
	until := c.now().Add(CacheFor)
	if t.ExpiresAt.Before(until) {
		until = t.ExpiresAt
	}
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch != epoch {
		return
	}
	if len(s.held) >= shardSize {
		clear(s.held)
	}
	s.held[key] = cached{t, until}
}

// forget makes one token be read again.
func (c *cache) forget(key [sha256.Size]byte) {
	s := c.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
	delete(s.held, key)
}

// forgetAll makes every token be read again.
func (c *cache) forgetAll() {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		s.epoch++
		clear(s.held)
		s.mu.Unlock()
	}
}

func keyOf(token string) [sha256.Size]byte { return sha256.Sum256([]byte(token)) }

func hexKey(key [sha256.Size]byte) string { return hex.EncodeToString(key[:]) }

// Cached makes a Provider of another one by remembering for CacheFor what its tokens stand for.
type Cached struct {
	of    Provider
	cache *cache
}

var _ Provider = (*Cached)(nil)

// NewCached returns a Provider that asks p at most once in CacheFor about a token.
func NewCached(p Provider, now func() time.Time) *Cached { return &Cached{of: p, cache: newCache(now)} }

// Validate implements Provider.
func (c *Cached) Validate(ctx context.Context, token string) (*Token, error) {
	key := keyOf(token)
	t, epoch := c.cache.get(key)
	if t != nil {
		return t, nil
	}
	t, err := c.of.Validate(ctx, token)
	if err != nil {
		return nil, err
	}
	c.cache.put(key, epoch, t)
	return t, nil
}

// Forget makes a token be asked about again, after it was revoked.
func (c *Cached) Forget(token string) { c.cache.forget(keyOf(token)) }
