// Package rspamd asks rspamd's normal worker: POST /checkv2 with what the
// envelope and the session tell (rspamd's HTTP protocol), over TCP or a Unix
// socket.
//
// Guarantee: Clean and Spam are only told of a message that rspamd took to its
// end, by an answer that names a score and an action this package knows.
// Guarantee: header changes that rspamd asks for can't add a field beside
// their own, end the header, or hold control characters.
//
// Each scan has a connection of its own: rspamd ends it after the answer, and
// content can be read only once. It doesn't learn, and changes no message.
package rspamd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"qstream/engine"
	"qstream/mail"
)

// Config is an rspamd. Durations that are zero take their defaults.
type Config struct {
	Name     string        // in verdicts; default "rspamd"
	Network  string        // "tcp" or "unix"
	Address  string        // of the normal worker: host and port, or the socket's path
	Connect  time.Duration // for a connection; default 5s
	Patience time.Duration // for rspamd to take more content, and to answer at the end; default 1m
	// MaxSize is rspamd's max_message in bytes. Larger mail is Unscannable
	// without being sent; 0: rspamd says so itself.
	MaxSize int64
}

const (
	maxHeader = 64 << 10
	maxAnswer = 4 << 20
)

// Client is an rspamd that can be asked.
type Client struct {
	cfg       Config
	transport *http.Transport
}

var _ engine.Engine = (*Client)(nil)

// New checks cfg and connects to nothing.
func New(cfg Config) (*Client, error) {
	if cfg.Network != "tcp" && cfg.Network != "unix" {
		return nil, fmt.Errorf("rspamd: network %q is neither tcp nor unix", cfg.Network)
	}
	if cfg.Address == "" {
		return nil, errors.New("rspamd: no address")
	}
	if cfg.Connect < 0 || cfg.Patience < 0 || cfg.MaxSize < 0 {
		return nil, errors.New("rspamd: negative setting")
	}
	if cfg.Name == "" {
		cfg.Name = "rspamd"
	}
	if cfg.Connect == 0 {
		cfg.Connect = 5 * time.Second
	}
	if cfg.Patience == 0 {
		cfg.Patience = time.Minute
	}
	dialer := &net.Dialer{Timeout: cfg.Connect}
	return &Client{cfg: cfg, transport: &http.Transport{
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, cfg.Network, cfg.Address)
			if err != nil {
				return nil, &engine.Failure{Reason: engine.Unreachable, Err: err}
			}
			return c, nil
		},
	}}, nil
}

// Name is Config.Name.
func (c *Client) Name() string { return c.cfg.Name }

// Close has nothing to end: no connection outlives its scan.
func (c *Client) Close() error { return nil }

// State asks for /ping. rspamd names no version of its rules.
func (c *Client) State(ctx context.Context) (engine.State, error) {
	req, err := c.request(ctx, http.MethodGet, "/ping", nil)
	if err != nil {
		return engine.State{}, err
	}
	a, err := c.do(req, nil)
	if err != nil {
		return engine.State{}, fmt.Errorf("ask %s for a sign of life: %w", c.cfg.Name, err)
	}
	if a.code != http.StatusOK || !strings.HasPrefix(string(a.body), "pong") {
		return engine.State{}, fmt.Errorf("%s answers a ping with %d %q", c.cfg.Name, a.code, engine.Text(string(a.body)))
	}
	return engine.State{Software: engine.Text(a.server)}, nil
}

// Scan sends content with its facts.
func (c *Client) Scan(ctx context.Context, content io.Reader, f *engine.Facts) engine.Verdict {
	if c.cfg.MaxSize > 0 && f.Size > c.cfg.MaxSize {
		return engine.Verdict{Engine: c.cfg.Name, Outcome: engine.Unscannable, Reason: engine.TooLarge,
			Detail: fmt.Sprintf("%d bytes, rspamd takes %d", f.Size, c.cfg.MaxSize)}
	}
	v, err := c.scan(ctx, content, f)
	if err != nil {
		return engine.FailedBy(ctx, c.cfg.Name, err)
	}
	v.Engine = c.cfg.Name
	return v
}

func (c *Client) scan(ctx context.Context, content io.Reader, f *engine.Facts) (engine.Verdict, error) {
	body := &upload{from: engine.NewContent(content)}
	req, err := c.request(ctx, http.MethodPost, "/checkv2", body)
	if err != nil {
		return engine.Verdict{}, err
	}
	if f.Size > 0 {
		req.ContentLength = f.Size
	}
	describe(req.Header, f)
	a, err := c.do(req, body)
	if err != nil {
		return engine.Verdict{}, err
	}
	return verdict(a)
}

func (c *Client) request(ctx context.Context, method, path string, body io.Reader) (*http.Request, error) {
	host := c.cfg.Address
	if c.cfg.Network == "unix" {
		host = "localhost"
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+host+path, body)
	if err != nil {
		return nil, fmt.Errorf("make a request: %w", err)
	}
	req.Header.Set("User-Agent", "qstream")
	return req, nil
}

// describe puts the facts into headers, as rspamd's own clients do.
func describe(h http.Header, f *engine.Facts) {
	set := func(name, value string) {
		if value != "" {
			h.Set(name, strings.TrimSpace(mail.Printable(value)))
		}
	}
	set("Queue-Id", f.MessageID)
	set("Helo", f.HELO)
	set("Hostname", f.ClientName)
	set("User", f.User)
	if f.Client.IsValid() {
		set("IP", f.Client.Unmap().String())
	}
	set("From", "<"+f.ReversePath+">")
	for _, r := range f.Recipients {
		h.Add("Rcpt", "<"+strings.TrimSpace(mail.Printable(r))+">")
	}
}

// answer is what came back over HTTP.
type answer struct {
	code   int
	server string
	body   []byte
}

// do makes a request and watches that it goes on. body is the request's, nil
// for none; it isn't read any more afterwards.
func (c *Client) do(req *http.Request, body *upload) (answer, error) {
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	watch := time.AfterFunc(c.cfg.Patience, cancel)
	defer watch.Stop()
	if body != nil {
		body.watch, body.patience = watch, c.cfg.Patience
		defer body.Close()
	}
	a, err := c.exchange(req.WithContext(ctx))
	if body != nil {
		_ = body.Close()
		if failed := body.from.Err(); failed != nil {
			return a, engine.Fail(engine.Unreadable, "read content: %w", failed)
		}
	}
	switch {
	case err != nil && req.Context().Err() == nil && ctx.Err() != nil:
		return a, engine.Fail(engine.Late, "nothing from rspamd for %v", c.cfg.Patience)
	case err == nil && body != nil && a.code == http.StatusOK:
		return a, body.check(req.ContentLength)
	}
	return a, err
}

func (c *Client) exchange(req *http.Request) (answer, error) {
	res, err := c.transport.RoundTrip(req)
	if err != nil {
		return answer{}, fmt.Errorf("ask rspamd: %w", err)
	}
	defer res.Body.Close()
	a := answer{code: res.StatusCode, server: res.Header.Get("Server")}
	a.body, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return answer{}, fmt.Errorf("read the answer of rspamd: %w", err)
	}
	if len(a.body) > maxAnswer {
		return answer{}, errors.New("the answer of rspamd is longer than " + strconv.Itoa(maxAnswer) + " bytes")
	}
	return a, nil
}

// upload reads content for the transport. The watch stands still while content
// is read, which is not rspamd's doing.
type upload struct {
	from     *engine.Content
	watch    *time.Timer
	patience time.Duration

	mu     sync.Mutex
	closed bool
	whole  bool
}

var errClosed = errors.New("read after the request's end")

// Read reads on.
func (u *upload) Read(p []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return 0, errClosed
	}
	running := u.watch.Stop()
	n, err := u.from.Read(p)
	if running {
		u.watch.Reset(u.patience)
	}
	u.whole = u.whole || err == io.EOF
	return n, err
}

// check says whether all of content was taken when the answer came. The end
// of content need not have been seen where its size was told before.
func (u *upload) check(size int64) error {
	if u.whole {
		return nil
	}
	if size <= 0 || u.from.Bytes() < size {
		return engine.Fail(engine.Broken, "rspamd answers before it has the message")
	}
	if n, err := u.from.Read(make([]byte, 1)); n > 0 || err != io.EOF {
		return engine.Fail(engine.Unreadable, "content is not of the %d bytes that were told", size)
	}
	return nil
}

// Close waits for a read that is under way; none follows.
func (u *upload) Close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	return nil
}
