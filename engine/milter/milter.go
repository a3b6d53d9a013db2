// Package milter asks a mail filter in Sendmail's milter protocol, version 6,
// over TCP or a Unix socket: every callback from connect to end of body, once
// for each message.
//
// Guarantee: Clean means that the filter said continue at the end of the whole
// message, or accept before. Tempfail, as filters say when what they ask is down,
// is Failed.
// Guarantee: header changes that a filter asks for can't add a field beside
// their own, end the header, or hold control characters.
//
// Changes of the header and quarantine are offered to filters. Changes of the
// body, the reverse-path and the recipients are not, since content is never
// changed: a filter that insists on them ends the connection. Each scan has a
// connection of its own.
package milter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"qstream/engine"
)

// Config is a filter. Durations that are zero take their defaults.
type Config struct {
	Name     string        // in verdicts; default "milter"
	Network  string        // "tcp" or "unix"
	Address  string        // host and port, or the socket's path
	Hostname string        // ours, which filters know as macro j; default "localhost"
	Connect  time.Duration // for a connection; default 5s
	Patience time.Duration // for each answer and packet; default 1m
}

// Client is a filter that can be asked.
type Client struct{ cfg Config }

var _ engine.Engine = (*Client)(nil)

// New checks cfg and connects to nothing.
func New(cfg Config) (*Client, error) {
	if cfg.Network != "tcp" && cfg.Network != "unix" {
		return nil, fmt.Errorf("milter: network %q is neither tcp nor unix", cfg.Network)
	}
	if cfg.Address == "" {
		return nil, errors.New("milter: no address")
	}
	if cfg.Connect < 0 || cfg.Patience < 0 {
		return nil, errors.New("milter: negative setting")
	}
	if cfg.Name == "" {
		cfg.Name = "milter"
	}
	if cfg.Hostname == "" {
		cfg.Hostname = "localhost"
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

// State negotiates with the filter. The protocol has no word for what a filter
// knows.
func (c *Client) State(ctx context.Context) (engine.State, error) {
	s, err := c.begin(ctx)
	if err != nil {
		return engine.State{}, fmt.Errorf("negotiate with %s: %w", c.cfg.Name, err)
	}
	s.quit()
	return engine.State{Software: fmt.Sprintf("milter protocol %d", s.version)}, nil
}

// Scan takes the filter through the message.
func (c *Client) Scan(ctx context.Context, content io.Reader, f *engine.Facts) engine.Verdict {
	s, err := c.begin(ctx)
	if err != nil {
		return engine.FailedBy(ctx, c.cfg.Name, err)
	}
	v, err := s.scan(&c.cfg, engine.NewContent(content), f)
	if err != nil {
		_ = s.conn.Close() // the filter's abort
		return engine.FailedBy(ctx, c.cfg.Name, err)
	}
	s.quit()
	v.Engine = c.cfg.Name
	return v
}

func (c *Client) begin(ctx context.Context) (*session, error) {
	conn, err := engine.Dial(ctx, c.cfg.Network, c.cfg.Address, c.cfg.Connect, c.cfg.Patience)
	if err != nil {
		return nil, err
	}
	conn.For(ctx)
	s := &session{conn: conn}
	if err := s.negotiate(); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return s, nil
}
