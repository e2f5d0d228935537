package openflow

import (
	"context"
	"fmt"
)

// write writes what waits to be sent, whenever it is woken.
func (c *Conn) write(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
		}
		raw := c.take(false)
		if raw == nil {
			continue // the reader has written it, or wakes us when it has
		}
		if _, err := c.net.Write(raw); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		c.wrote(raw, nil)
	}
}

// cork has offers wait for uncork. Only the reader calls either.
func (c *Conn) cork() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.corked = true
}

// uncork writes what has been offered meanwhile: by itself if the switch takes it at once, since waking the writer takes longer than the write.
func (c *Conn) uncork() {
	raw := c.take(true)
	if raw == nil {
		return
	}
	n := 0
	if c.sock != nil {
		n = c.sock.tryWrite(raw)
	}
	c.wrote(raw, raw[n:])
}

// take returns what waits to be sent, for the caller to write and to tell wrote of; nil: nothing does, or somebody is writing.
func (c *Conn) take(uncork bool) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if uncork {
		c.corked = false
	}
	if c.writing || len(c.left)+len(c.out.b) == 0 {
		return nil
	}
	c.writing = true
	if raw := c.left; len(raw) > 0 {
		c.left = nil
		return raw
	}
	raw := c.out.b
	c.out.b, c.spare = c.spare, nil
	if c.room != nil {
		close(c.room)
		c.room = nil
	}
	return raw
}

// wrote takes back what was taken to be written, and what is left of it.
func (c *Conn) wrote(raw, left []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writing = false
	if len(left) > 0 {
		c.left = left
	} else if c.spare == nil && (cap(raw) <= maxOffered || len(raw) >= maxOffered) { // else a bundle needed so much, and now nothing does
		c.spare = raw[:0]
	}
	if len(c.left)+len(c.out.b) > 0 && !c.corked {
		c.poke()
	}
}

// poke wakes the writer.
func (c *Conn) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}
