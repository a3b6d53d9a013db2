// Package clamd asks ClamAV's daemon: INSTREAM in sessions that are kept open,
// over TCP or a Unix socket (clamd(8)).
//
// Guarantee: Clean means that clamd answered OK after it took the whole
// message. It doesn't mean that clamd looked into all of it: a member of an
// archive that compresses well and is larger than MaxFileSize passes as OK,
// also with AlertExceedsMax. Ask an engine that measures beside this one.
// It looks at less, too, while its folder for temporary files is full; with Parts
// that isn't Clean.
// Guarantee: a connection that may hold an answer to another scan is never used
// again.
//
// Names under Heuristics.Encrypted and Heuristics.Limits.Exceeded, which clamd
// gives with AlertEncrypted and AlertExceedsMax, are told as Encrypted and
// Unscannable. It loads no signatures and tells clamd nothing but the message.
package clamd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"qstream/engine"
)

// Config is a clamd. Durations and counts that are zero take their defaults.
type Config struct {
	Name    string // in verdicts; default "clamd"
	Network string // "tcp" or "unix"
	Address string // host and port, or the socket's path

	Connect  time.Duration // for a connection; default 5s
	Patience time.Duration // for clamd to take a chunk, and to answer at the end; default 2m
	// Idle sessions are kept for use again, at most this many, default 4, and
	// for IdleTime, default 20s: clamd ends them by itself after its
	// IdleTimeout (30 s).
	Idle     int
	IdleTime time.Duration
	// MaxSize is clamd's StreamMaxLength in bytes. Larger mail is Unscannable
	// without being sent; 0: clamd says so itself.
	MaxSize int64
	// Parts has clamd look at each decoded part of a message by itself, too, on a
	// second connection: it passes over what it has no room for on its disk.
	Parts bool
	Dir   string // of parts above 1 MiB meanwhile, in files without names; default os.TempDir
}

// Client is a clamd that can be asked.
type Client struct {
	cfg Config

	mu   sync.Mutex
	idle []*session // the one used last at the end
	shut bool
}

var _ engine.Engine = (*Client)(nil)

// New checks cfg and connects to nothing.
func New(cfg Config) (*Client, error) {
	if cfg.Network != "tcp" && cfg.Network != "unix" {
		return nil, fmt.Errorf("clamd: network %q is neither tcp nor unix", cfg.Network)
	}
	if cfg.Address == "" {
		return nil, errors.New("clamd: no address")
	}
	if cfg.Connect < 0 || cfg.Patience < 0 || cfg.IdleTime < 0 || cfg.Idle < 0 || cfg.MaxSize < 0 {
		return nil, errors.New("clamd: negative setting")
	}
	if cfg.Name == "" {
		cfg.Name = "clamd"
	}
	for _, d := range []struct {
		at *time.Duration
		is time.Duration
	}{{&cfg.Connect, 5 * time.Second}, {&cfg.Patience, 2 * time.Minute}, {&cfg.IdleTime, 20 * time.Second}} {
		if *d.at == 0 {
			*d.at = d.is
		}
	}
	if cfg.Idle == 0 {
		cfg.Idle = 4
	}
	return &Client{cfg: cfg}, nil
}

// Name is Config.Name.
func (c *Client) Name() string { return c.cfg.Name }

// Scan sends content and returns clamd's verdict.
func (c *Client) Scan(ctx context.Context, content io.Reader, f *engine.Facts) engine.Verdict {
	if c.cfg.MaxSize > 0 && f.Size > c.cfg.MaxSize {
		return engine.Verdict{Engine: c.cfg.Name, Outcome: engine.Unscannable, Reason: engine.TooLarge,
			Detail: fmt.Sprintf("%d bytes, clamd takes %d", f.Size, c.cfg.MaxSize)}
	}
	v, err := c.scan(ctx, engine.NewContent(content))
	if err != nil {
		return engine.FailedBy(ctx, c.cfg.Name, err)
	}
	v.Engine = c.cfg.Name
	return v
}

func (c *Client) scan(ctx context.Context, content *engine.Content) (engine.Verdict, error) {
	s, state, err := c.session(ctx)
	if err != nil {
		return engine.Verdict{}, err
	}
	v, err := c.look(ctx, s, content)
	v.Signatures = state.Signatures
	if err != nil || s.ended {
		_ = s.conn.Close()
		return v, err
	}
	c.keep(s)
	return v, nil
}

// look sends the message, and on its way each part of it by itself.
func (c *Client) look(ctx context.Context, s *session, content *engine.Content) (engine.Verdict, error) {
	u, err := s.begin(content)
	if err != nil {
		return engine.Verdict{}, err
	}
	worst := engine.Verdict{Outcome: engine.Clean}
	if c.cfg.Parts {
		worst, err = c.parts(ctx, u)
		if err == nil && worst.Outcome == engine.Malware {
			s.ended = true // the message isn't sent to its end
			return worst, nil
		}
	}
	if err != nil && u.broken == nil {
		return engine.Verdict{}, err
	}
	reply, err := u.end()
	if err != nil {
		return engine.Verdict{}, err
	}
	v, err := verdict(reply)
	if err != nil {
		return engine.Verdict{}, err
	}
	return graver(v, worst), nil
}

// State asks for VERSION: the engine's version, and the number and date of the
// official signatures where clamd has them. Own signatures have none: clamd
// then doesn't tell which set is in force. The date is in clamd's own time
// zone and read as UTC.
func (c *Client) State(ctx context.Context) (engine.State, error) {
	s, state, err := c.session(ctx)
	if err != nil {
		return engine.State{}, fmt.Errorf("ask %s for its version: %w", c.cfg.Name, err)
	}
	c.keep(s)
	return state, nil
}

// session is one that has just answered VERSION: content can be read only
// once, so a session that clamd has ended meanwhile must be noticed before.
func (c *Client) session(ctx context.Context) (*session, engine.State, error) {
	for s := c.reuse(); s != nil; s = c.reuse() {
		s.conn.For(ctx)
		state, err := s.version()
		if err == nil {
			return s, state, nil
		}
		_ = s.conn.Close()
		if ctx.Err() != nil || errors.Is(err, errSilent) {
			return nil, engine.State{}, err
		}
	}
	conn, err := engine.Dial(ctx, c.cfg.Network, c.cfg.Address, c.cfg.Connect, c.cfg.Patience)
	if err != nil {
		return nil, engine.State{}, err
	}
	conn.For(ctx)
	s, state, err := open(conn)
	if err != nil {
		_ = conn.Close()
		return nil, engine.State{}, err
	}
	return s, state, nil
}

func (c *Client) reuse() *session {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.prune()
	if len(c.idle) == 0 {
		return nil
	}
	last := len(c.idle) - 1
	s := c.idle[last]
	c.idle = c.idle[:last]
	return s
}

// prune ends the sessions that have been idle for too long.
func (c *Client) prune() {
	old := 0
	for old < len(c.idle) && time.Since(c.idle[old].used) > c.cfg.IdleTime {
		_ = c.idle[old].conn.Close()
		old++
	}
	c.idle = append(c.idle[:0:0], c.idle[old:]...)
}

func (c *Client) keep(s *session) {
	free := s.conn.For(context.Background())
	s.used = time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.prune()
	if !free || c.shut || len(c.idle) >= c.cfg.Idle {
		_ = s.conn.Close()
		return
	}
	c.idle = append(c.idle, s)
}

// Close ends the idle sessions. Later scans leave none behind.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shut = true
	for _, s := range c.idle {
		_ = s.conn.Close()
	}
	c.idle = nil
	return nil
}
