package ovsdb

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/headwater-cloud/headwater/sites/fault"
)

// Config says where a database is and what of it is wanted.
type Config struct {
	// Endpoint is "unix:PATH", "tcp:HOST:PORT" or "ssl:HOST:PORT".
	Endpoint string
	// TLS is for ssl endpoints. nil trusts the system's roots.
	TLS *tls.Config
	// Database is the database's name: "Open_vSwitch".
	Database string
	// Models are the tables of the replica; a table's columns are its model's fields.
	Models []Model
	// Lock is the name (letters, digits and underscores) of a lock (RFC 7047 section 4.1.8) that the client asks for whenever it connects; empty: none.
	// Transactions are made only while it is held.
	Lock string
	// Changed is called with what each change of the database changed, in their order; nil: nobody is told. Until it returns, nothing
	// else of the server is looked at and nobody who waits is woken: it must be quick, and may call no method of the Client but View.
	Changed func([]Change)
	// Timeout bounds the dial, the first read and each transaction; 0 stands for 10 s.
	Timeout time.Duration
	// Probe is how long the server may be silent before it is asked for an echo; after as long again the connection is given
	// up. 0 stands for 5 s, Open vSwitch's own.
	Probe time.Duration
	// MaxBackoff bounds the wait between two attempts to connect, which grows from 50 ms; 0 stands for 5 s.
	MaxBackoff time.Duration
}

// Validate reports all that is wrong with the configuration.
func (c Config) Validate() error {
	_, err := parseEndpoint(c.Endpoint)
	if c.Database == "" {
		err = errors.Join(err, errors.New("OVSDB: no database is named"))
	}
	if c.Lock != "" && !idForm.MatchString(c.Lock) {
		err = errors.Join(err, fmt.Errorf("OVSDB lock %q: want letters, digits and underscores", c.Lock))
	}
	for _, d := range []time.Duration{c.Timeout, c.Probe, c.MaxBackoff} {
		if d < 0 {
			err = errors.Join(err, fmt.Errorf("OVSDB: a time of %s", d))
		}
	}
	return err
}

// idForm is the form of an <id> (RFC 7047 section 3.1).
var idForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (c Config) withDefaults() Config {
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	if c.Probe == 0 {
		c.Probe = 5 * time.Second
	}
	if c.MaxBackoff == 0 {
		c.MaxBackoff = 5 * time.Second
	}
	return c
}

// Client is a client of one database. Its methods may be called at the same time; all but Run wait or fail while there is no connection.
type Client struct {
	cfg Config
	at  endpoint
	log *slog.Logger

	mu     sync.Mutex // guards the fields below
	link   *link      // nil while there is no connection or the first read is not done
	view   *View      // never nil
	synced bool       // the database was read at least once
	held   bool       // Config.Lock is ours, on the present connection
	moved  chan struct{}
}

// link is a connection whose first read is done.
type link struct {
	conn   *conn
	schema *Schema
}

// New returns a client that does nothing until Run. log may be nil.
func New(cfg Config, log *slog.Logger) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	at, err := parseEndpoint(cfg.Endpoint)
	return &Client{cfg: cfg.withDefaults(), at: at, log: log, view: &View{}, moved: make(chan struct{})}, err
}

// Run keeps the connection and the replica until ctx ends, and returns nil then. It returns an error only for what no
// new attempt can mend: a schema that has not the tables or types of Config.Models.
func (c *Client) Run(ctx context.Context) error {
	backoff := 50 * time.Millisecond
	said, saidAt := "", time.Time{}
	for {
		began := time.Now()
		err := c.session(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it ended because it was to end
		}
		if errors.Is(err, errUnfit) {
			return err
		}
		// A server that stays away is told of once a minute, not at each attempt.
		if text := err.Error(); text != said || time.Since(saidAt) >= time.Minute || time.Since(began) > time.Minute {
			c.log.WarnContext(ctx, "no connection to the OVSDB server", "endpoint", c.cfg.Endpoint, "err", err)
			said, saidAt = text, time.Now()
		}
		if time.Since(began) > 2*c.cfg.MaxBackoff {
			backoff = 50 * time.Millisecond
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(backoff/2 + rand.N(backoff)):
		}
		backoff = min(2*backoff, c.cfg.MaxBackoff)
	}
}

// errUnfit marks a server that cannot serve the configuration.
var errUnfit = errors.New("the OVSDB server does not fit")

// session connects, reads the database and follows it until the connection ends.
func (c *Client) session(ctx context.Context) error {
	dial, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	n, err := c.at.dial(dial, c.cfg.TLS)
	if err != nil {
		return err
	}
	s := &session{client: c}
	s.conn = newConn(n, c.cfg.Probe, s.notified)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.conn.run(ctx) })
	g.Go(func() error {
		ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
		defer cancel()
		return s.begin(ctx)
	})
	err = g.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.link, c.held = nil, false
	c.wake()
	return err
}

// wake tells those who wait that something moved. The caller holds mu.
func (c *Client) wake() {
	close(c.moved)
	c.moved = make(chan struct{})
}

// session is what belongs to one connection.
type session struct {
	client  *Client
	conn    *conn
	schema  *Schema
	columns map[string]map[string]ColumnType // by table
}

// begin reads the schema and then the database.
func (s *session) begin(ctx context.Context) error {
	cfg := s.client.cfg
	raw, err := s.conn.call(ctx, "get_schema", []any{cfg.Database})
	if err != nil {
		return fmt.Errorf("read the schema of %s: %w", cfg.Database, err)
	}
	if s.schema, err = ParseSchema(raw); err != nil {
		return fmt.Errorf("%w: %w", errUnfit, err)
	}
	s.columns = map[string]map[string]ColumnType{}
	var unfit error
	for _, m := range cfg.Models {
		columns, err := columnsFor(s.schema, m)
		unfit = errors.Join(unfit, err)
		if of := s.columns[m.Table()]; of != nil {
			maps.Copy(of, columns)
		} else {
			s.columns[m.Table()] = columns
		}
	}
	if unfit != nil {
		return fmt.Errorf("%w: %w", errUnfit, unfit)
	}
	// Without it the server would end the connection when the schema is converted. Servers before 2.9 do not know it.
	if _, err := s.conn.call(ctx, "set_db_change_aware", []any{true}); err != nil {
		var refused *OpError
		if !errors.As(err, &refused) {
			return err
		}
	}
	if cfg.Lock != "" {
		if err := s.conn.request(ctx, "lock", []any{cfg.Lock}, s.lockAnswered); err != nil {
			return err
		}
	}
	return s.monitor(ctx)
}

// monitor asks for the tables and waits until the replica is what the server answered.
func (s *session) monitor(ctx context.Context) error {
	requests := map[string]any{}
	for table, columns := range s.columns {
		names := make([]string, 0, len(columns))
		for name := range columns {
			names = append(names, name)
		}
		slices.Sort(names)
		requests[table] = []any{map[string]any{"columns": names}}
	}
	// Against the last transaction seen a clustered server could send the difference only; the standalone one of a host never
	// can, so that the whole is asked for, and compared.
	params := []any{s.client.cfg.Database, s.client.cfg.Database, requests, UUID("00000000-0000-0000-0000-000000000000")}
	done := make(chan error, 1)
	err := s.conn.request(ctx, "monitor_cond_since", params, func(m message) error {
		err := replyError(m)
		if err == nil {
			err = s.initial(m.Result)
		}
		done <- err
		return err
	})
	if err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("first read of %s: %w", s.client.cfg.Database, ctx.Err())
	}
}

// initial takes the state that a monitor begins with: [found, last transaction, table updates].
func (s *session) initial(raw json.RawMessage) error {
	v, err := tree(raw)
	if err != nil {
		return err
	}
	reply, ok := v.([]any)
	if !ok || len(reply) != 3 {
		return fmt.Errorf("%w: monitor's reply", errValue)
	}
	changes, err := (&View{}).decodeUpdates(s.columns, reply[2])
	if err != nil {
		return err
	}
	c := s.client
	c.mu.Lock()
	fresh := (&View{}).with(changes)
	changes = c.view.replace(fresh.tables)
	c.view, c.link, c.synced = fresh, &link{s.conn, s.schema}, true
	c.mu.Unlock()
	s.tell(changes)
	return nil
}

// tell reports changes that the replica shows already, and then wakes those who wait.
func (s *session) tell(changes []Change) {
	if s.client.cfg.Changed != nil && len(changes) > 0 {
		s.client.cfg.Changed(changes)
	}
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	s.client.wake()
}

// notified deals with a notification of the server.
func (s *session) notified(method string, raw json.RawMessage) error {
	switch method {
	case "update3":
		return s.update(raw)
	case "monitor_canceled":
		return errCanceled
	case "locked", "stolen":
		s.client.setHeld(method == "locked")
	}
	return nil // of a later protocol: not ours
}

// update takes an update3: [monitor, last transaction, table updates].
func (s *session) update(raw json.RawMessage) error {
	v, err := tree(raw)
	if err != nil {
		return err
	}
	params, ok := v.([]any)
	if !ok || len(params) != 3 {
		return fmt.Errorf("%w: update3", errValue)
	}
	c := s.client
	changes, err := c.View().decodeUpdates(s.columns, params[2])
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.view = c.view.with(changes)
	c.mu.Unlock()
	s.tell(changes)
	return nil
}

// lockAnswered takes the reply of "lock": whether it is ours at once.
func (s *session) lockAnswered(m message) error {
	if err := replyError(m); err != nil {
		return fmt.Errorf("lock %s: %w", s.client.cfg.Lock, err)
	}
	var reply struct {
		Locked bool `json:"locked"`
	}
	if err := json.Unmarshal(m.Result, &reply); err != nil {
		return err
	}
	s.client.setHeld(reply.Locked)
	return nil
}

func (c *Client) setHeld(held bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = held
	c.wake()
}

// View is the replica as it is now; empty until the database was read once.
func (c *Client) View() *View {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.view
}

// Connected reports whether the replica follows the database at this moment; while it does not, View shows the last state known.
func (c *Client) Connected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.link != nil
}

// Held reports whether Config.Lock is this client's.
func (c *Client) Held() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held
}

// Await returns as soon as until holds for the replica, or fails; its error is ctx's, or until's own. It begins only when the
// database was read once. until is called at least once and must be quick.
func (c *Client) Await(ctx context.Context, until func(*View) (bool, error)) error {
	for {
		c.mu.Lock()
		view, synced, moved := c.view, c.synced, c.moved
		c.mu.Unlock()
		if synced {
			if done, err := until(view); done || err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return fault.Wrap(fault.Unavailable, "agents/ovsdb.Await", ctx.Err())
		case <-moved:
		}
	}
}

// Synced waits until the database was read once.
func (c *Client) Synced(ctx context.Context) error {
	return c.Await(ctx, func(*View) (bool, error) { return true, nil })
}

// connected waits for a connection, and for the lock where one is configured.
func (c *Client) connected(ctx context.Context) (*link, error) {
	for {
		c.mu.Lock()
		l, ready, moved := c.link, c.link != nil && (c.held || c.cfg.Lock == ""), c.moved
		c.mu.Unlock()
		if ready {
			return l, nil
		}
		select {
		case <-ctx.Done():
			if l != nil {
				return nil, fault.New(fault.Conflict, "agents/ovsdb.Transact", "another client holds the lock %s of %s", c.cfg.Lock, c.cfg.Endpoint)
			}
			return nil, fault.Wrap(fault.Unavailable, "agents/ovsdb.Transact", fmt.Errorf("no connection to %s: %w", c.cfg.Endpoint, ctx.Err()))
		case <-moved:
		}
	}
}

// Transact makes a transaction and returns the result of each operation; the replica shows then what it changed.
//
// A refusal is an *OpError, and nothing was changed. fault.Unavailable says that there was no connection, fault.Conflict that another
// client holds Config.Lock: nothing was sent. fault.Ambiguous says that the answer was lost: look before repeating.
func (c *Client) Transact(ctx context.Context, ops ...Op) ([]Result, error) {
	params := []any{c.cfg.Database}
	if c.cfg.Lock != "" {
		params = append(params, Assert(c.cfg.Lock))
	}
	for _, o := range ops {
		if o.err != nil {
			return nil, o.err
		}
		params = append(params, o)
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	l, err := c.connected(ctx)
	if err != nil {
		return nil, err
	}
	raw, err := l.conn.call(ctx, "transact", params)
	var refused *OpError
	switch {
	case errors.Is(err, errUnanswered):
		return nil, fault.Wrap(fault.Ambiguous, "agents/ovsdb.Transact", err)
	case errors.As(err, &refused):
		return nil, err
	case err != nil:
		return nil, fault.Wrap(fault.Unavailable, "agents/ovsdb.Transact", err)
	}
	reply, err := tree(raw)
	if err != nil {
		return nil, err
	}
	results, ok := reply.([]any)
	if !ok {
		return nil, fmt.Errorf("%w: the reply of a transaction", errValue)
	}
	if c.cfg.Lock == "" {
		return decodeResults(l.schema, ops, results)
	}
	return withoutAssert(decodeResults(l.schema, append([]Op{Assert(c.cfg.Lock)}, ops...), results))
}

// withoutAssert takes the result of our own first operation away.
func withoutAssert(results []Result, err error) ([]Result, error) {
	var refused *OpError
	if errors.As(err, &refused) && refused.Op >= 0 {
		refused.Op = max(refused.Op-1, 0)
		if refused.Name == ErrNotOwner.Error() {
			refused.Op = -1
		}
	}
	if len(results) > 0 {
		results = results[1:]
	}
	return results, err
}
