// Package icap asks an ICAP server (RFC 3507): RESPMOD or REQMOD with a preview,
// over TCP or a Unix socket. The message travels as the body of an HTTP
// exchange that never was.
//
// Guarantee: Clean means that the server took all of the message and answered
// 204. A 204 to the preview alone, as servers give to what they don't scan, is
// Unscannable.
// Guarantee: nothing larger than MaxSize is sent, since servers let what is
// above their own limit pass with 204. The size goes before the content, so that
// a server with a smaller limit can say so at the preview.
//
// It needs a server that answers 204 (Allow, RFC 3507 4.6), and takes no changed
// message from it. Each scan has a connection of its own.
package icap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"qstream/engine"
)

// Config is a service of a server. What is zero takes its default.
type Config struct {
	Name     string        // in verdicts; default "icap"
	Network  string        // "tcp" or "unix"
	Address  string        // host and port (1344), or the socket's path
	Service  string        // path of the service, such as "avscan"
	Method   string        // "RESPMOD", the default, or "REQMOD"
	Preview  int           // bytes of the preview; default 1024
	MaxSize  int64         // the server's own limit of a body; default 5 MiB, as c-icap's
	Connect  time.Duration // for a connection; default 5s
	Patience time.Duration // for each piece sent, and for an answer; default 1m
}

// Client is a service that can be asked.
type Client struct{ cfg Config }

var _ engine.Engine = (*Client)(nil)

// New checks cfg and connects to nothing.
func New(cfg Config) (*Client, error) {
	switch {
	case cfg.Network != "tcp" && cfg.Network != "unix":
		return nil, fmt.Errorf("icap: network %q is neither tcp nor unix", cfg.Network)
	case cfg.Address == "":
		return nil, errors.New("icap: no address")
	case cfg.Service == "" || strings.ContainsFunc(cfg.Service, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return nil, fmt.Errorf("icap: service %q is no path", cfg.Service)
	case cfg.Method != "" && cfg.Method != "RESPMOD" && cfg.Method != "REQMOD":
		return nil, fmt.Errorf("icap: method %q is neither RESPMOD nor REQMOD", cfg.Method)
	case cfg.Preview < 0 || cfg.Preview > 64<<10 || cfg.MaxSize < 0 || cfg.Connect < 0 || cfg.Patience < 0:
		return nil, errors.New("icap: a setting is out of range")
	}
	if cfg.Name == "" {
		cfg.Name = "icap"
	}
	if cfg.Method == "" {
		cfg.Method = "RESPMOD"
	}
	if cfg.Preview == 0 {
		cfg.Preview = 1024
	}
	if cfg.MaxSize == 0 {
		cfg.MaxSize = 5 << 20
	}
	if cfg.Connect == 0 {
		cfg.Connect = 5 * time.Second
	}
	if cfg.Patience == 0 {
		cfg.Patience = time.Minute
	}
	return &Client{cfg: cfg}, nil
}

// Name is Config.Name.
func (c *Client) Name() string { return c.cfg.Name }

// Close has nothing to end: no connection outlives its scan.
func (c *Client) Close() error { return nil }

// State asks for OPTIONS: the server's ISTag changes with its signatures
// (RFC 3507 4.7). A service that doesn't offer the method or 204 can't be used.
func (c *Client) State(ctx context.Context) (engine.State, error) {
	s, err := c.begin(ctx)
	if err != nil {
		return engine.State{}, fmt.Errorf("ask %s for its options: %w", c.cfg.Name, err)
	}
	defer s.conn.Close()
	r, err := s.options()
	if err != nil {
		return engine.State{}, fmt.Errorf("ask %s for its options: %w", c.cfg.Name, err)
	}
	if r.code != 200 || !lists(r.header.Get("Methods"), c.cfg.Method) || !lists(r.header.Get("Allow"), "204") {
		return engine.State{}, fmt.Errorf("%s answers %d and offers the methods %q, allows %q", c.cfg.Name, r.code,
			engine.Text(r.header.Get("Methods")), engine.Text(r.header.Get("Allow")))
	}
	return engine.State{Software: engine.Text(r.header.Get("Service")), Signatures: tag(r)}, nil
}

// lists reports a word of a list that commas separate.
func lists(list, word string) bool {
	for w := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(strings.TrimSpace(w), word) {
			return true
		}
	}
	return false
}

// Scan sends content and returns the server's verdict.
func (c *Client) Scan(ctx context.Context, content io.Reader, f *engine.Facts) engine.Verdict {
	if f.Size > c.cfg.MaxSize {
		return c.tooLarge()
	}
	v, err := c.scan(ctx, engine.NewContent(content), f.Size)
	if errors.Is(err, errTooLarge) {
		return c.tooLarge()
	}
	if err != nil {
		return engine.FailedBy(ctx, c.cfg.Name, err)
	}
	v.Engine = c.cfg.Name
	return v
}

func (c *Client) scan(ctx context.Context, content *engine.Content, told int64) (engine.Verdict, error) {
	from, size, done, err := c.measured(content, told)
	defer done()
	if err != nil {
		return engine.Verdict{}, err
	}
	s, err := c.begin(ctx)
	if err != nil {
		return engine.Verdict{}, err
	}
	defer s.conn.Close()
	return s.scan(from, size)
}

func (c *Client) tooLarge() engine.Verdict {
	return engine.Verdict{Engine: c.cfg.Name, Outcome: engine.Unscannable, Reason: engine.TooLarge,
		Detail: fmt.Sprintf("more than the %d bytes that are scanned", c.cfg.MaxSize)}
}

func (c *Client) begin(ctx context.Context) (*session, error) {
	conn, err := engine.Dial(ctx, c.cfg.Network, c.cfg.Address, c.cfg.Connect, c.cfg.Patience)
	if err != nil {
		return nil, err
	}
	conn.For(ctx)
	return newSession(&c.cfg, conn), nil
}
