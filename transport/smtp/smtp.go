// Package smtp is the SMTP and LMTP client: it finds the hosts of a target,
// keeps connections for reuse, speaks the dialogue (RFC 5321, RFC 2033) and
// says for each recipient what the peer answered.
//
// It pipelines (RFC 2920): MAIL, all RCPT and DATA go out in one write. It
// uses 8BITMIME, SIZE, SMTPUTF8, DSN and ENHANCEDSTATUSCODES where offered,
// and STARTTLS opportunistically: certificates are not verified, and a failed
// handshake is followed by a plain connection; Config.Secure demands more. Content with 8-bit bytes goes
// out as it is when the peer lacks 8BITMIME, as qmail does: nothing is ever
// converted, so that signatures hold.
//
// Guarantee: content arrives with exactly the bytes given (a missing last line
// end is added). Stray CR, LF and NUL are refused with 5.6.0, not mended.
// Guarantee: between the final dot and its reply nothing but the end of ctx or
// the reply's own time limit ends the wait.
//
// It does not authenticate or convert content.
package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"time"

	"qstream/transport"
	"qstream/transport/resolver"
)

// Config is what all attempts share. Resolver is required; zero values take
// the defaults.
type Config struct {
	LMTP     bool
	Resolver *resolver.Resolver
	NoTLS    bool // never STARTTLS
	// Secure, when set, is what STARTTLS must succeed with: no mail goes to a
	// host that doesn't offer it, or whose certificate is none for the target's
	// name. Nil: opportunistic.
	Secure   *tls.Config
	Timeouts Timeouts
	MinRate  int64 // bytes of content a second that a peer must take, beyond one Timeouts.Block; default 4096
	// MaxHosts bounds the addresses tried in one attempt (default 5),
	// MaxSessions those of them that greeted us (default 2).
	MaxHosts, MaxSessions int
	// Reuse of connections: how long one may idle (default 5 s; negative: no
	// reuse), how many messages it may carry (default 100), how old it may
	// become (default 5 min), how many may idle in all (default 500).
	Idle        time.Duration
	MaxMessages int
	MaxAge      time.Duration
	MaxIdle     int
	Now         func() time.Time // default time.Now
}

// Timeouts bound the steps of a dialogue. The defaults are those of RFC 5321
// 4.5.3.2; connecting has 30 s, and an envelope as a whole 15 min, so that a
// peer can't hold us by answering each of a hundred recipients just in time.
type Timeouts struct {
	Connect  time.Duration // default 30 s
	Greeting time.Duration // default 5 min
	Command  time.Duration // EHLO, MAIL, RCPT, RSET; default 5 min
	TLS      time.Duration // STARTTLS and the handshake; default 1 min
	Envelope time.Duration // all of MAIL to the reply to DATA; default 15 min
	Data     time.Duration // reply to DATA; default 2 min
	Block    time.Duration // each write of content; default 3 min
	Dot      time.Duration // reply to the final dot; default 10 min
}

func (t *Timeouts) defaults() {
	for _, d := range []struct {
		v  *time.Duration
		to time.Duration
	}{
		{&t.Connect, 30 * time.Second}, {&t.Greeting, 5 * time.Minute},
		{&t.Command, 5 * time.Minute}, {&t.TLS, time.Minute},
		{&t.Envelope, 15 * time.Minute}, {&t.Data, 2 * time.Minute},
		{&t.Block, 3 * time.Minute}, {&t.Dot, 10 * time.Minute},
	} {
		if *d.v == 0 {
			*d.v = d.to
		}
	}
}

func (t Timeouts) least() time.Duration {
	return min(t.Connect, t.Greeting, t.Command, t.TLS, t.Envelope, t.Data, t.Block, t.Dot)
}

// Client makes SMTP or LMTP attempts.
type Client struct {
	cfg    Config
	pool   *pool
	badTLS memory
}

var _ transport.Transport = (*Client)(nil)

// New checks cfg; it opens nothing.
func New(cfg Config) (*Client, error) {
	if cfg.Resolver == nil {
		return nil, errors.New("no resolver")
	}
	if cfg.NoTLS && cfg.Secure != nil {
		return nil, errors.New("TLS is demanded and forbidden")
	}
	if cfg.Timeouts.least() < 0 || cfg.MinRate < 0 || min(cfg.MaxHosts, cfg.MaxSessions) < 0 {
		return nil, errors.New("limits must not be negative")
	}
	cfg.Timeouts.defaults()
	orDefault(&cfg.MinRate, 4096)
	orDefault(&cfg.MaxHosts, 5)
	orDefault(&cfg.MaxSessions, 2)
	orDefault(&cfg.Idle, 5*time.Second)
	orDefault(&cfg.MaxMessages, 100)
	orDefault(&cfg.MaxAge, 5*time.Minute)
	orDefault(&cfg.MaxIdle, 500)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Client{cfg: cfg, pool: newPool(cfg)}, nil
}

func orDefault[T int | int64 | time.Duration](v *T, to T) {
	if *v == 0 {
		*v = to
	}
}

// Deliver makes one attempt over the target's hosts. See transport.Transport.
func (c *Client) Deliver(ctx context.Context, t transport.Target, a *transport.Attempt) transport.Result {
	early, release := a.Early(ctx)
	defer release()
	d := newDelivery(c, ctx, early, a)
	d.cut = release
	if !d.checkEnvelope() {
		return d.result()
	}
	hosts, err := c.hosts(early, t, a)
	if err != nil {
		d.fail(lookupError(lookedUp(t), err))
		return d.result()
	}
	d.overHosts(hosts)
	return d.result()
}

// Close says QUIT on idle connections and closes them.
func (c *Client) Close() error {
	c.pool.close()
	return nil
}
