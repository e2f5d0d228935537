package dbschema

import "sync"

// topics wakes those of this process who wait for a change of some rows.
type topics struct {
	mu     sync.Mutex // guards the field below
	byName map[string]map[chan struct{}]bool
}

// Subscribe returns a channel that becomes readable soon after a transaction of
// this process that called Notify(topic) was committed. Signals that come while
// one is unread melt into it. Other replicas' changes give no signal: poll for
// them. cancel ends the subscription; the channel is never closed.
func (db *DB) Subscribe(topic string) (changed <-chan struct{}, cancel func()) {
	ch := make(chan struct{}, 1)
	t := &db.topics
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byName == nil {
		t.byName = map[string]map[chan struct{}]bool{}
	}
	if t.byName[topic] == nil {
		t.byName[topic] = map[chan struct{}]bool{}
	}
	t.byName[topic][ch] = true
	return ch, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.byName[topic], ch)
	}
}

// Notify wakes the subscribers of topic once the transaction is committed.
func (tx Tx) Notify(topic string) {
	t := &tx.s.db.topics
	tx.AfterCommit(func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		for ch := range t.byName[topic] {
			select {
			case ch <- struct{}{}:
			default: // one signal is waiting already
			}
		}
	})
}
