package smtp

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"qstream/mail"
	"qstream/transport"
)

// session is one open connection that has been greeted.
type session struct {
	host   host
	helo   string
	lmtp   bool
	secure *tls.Config // demanded; nil: opportunistic
	t      Timeouts
	raw    net.Conn // below TLS
	conn   net.Conn
	r      *bufio.Reader
	until  time.Time       // bounds several steps together; zero: nothing
	ctx    context.Context // what bounds the present step
	tls    string
	ext    map[string]string // EHLO keywords in upper case, and their parameters
	opened time.Time
	sent   int  // transactions so far
	clean  bool // the last one ended by the reply to its final dot
	kept   bool // was kept open for reuse
	broken bool // not to be used again
}

// open connects, greets and, where offered, starts TLS. After a failed
// handshake it connects again without, and so do others for a while.
func (c *Client) open(ctx context.Context, h host, helo string) (*session, *failure) {
	h.plain = c.cfg.Secure == nil && (h.plain || c.badTLS.has(h.addr, c.cfg.Now()))
	s, f := c.dial(ctx, h, helo)
	if f != nil {
		return nil, f
	}
	if f = s.greet(!c.cfg.NoTLS && !h.plain); f == nil {
		return s, nil
	}
	s.drop()
	if f.at != transport.AtTLS || f.remote || c.cfg.Secure != nil || ctx.Err() != nil {
		return nil, f
	}
	c.badTLS.note(h.addr, c.cfg.Now())
	h.plain = true
	return c.open(ctx, h, helo)
}

func (c *Client) dial(ctx context.Context, h host, helo string) (*session, *failure) {
	dialer := net.Dialer{Timeout: c.cfg.Timeouts.Connect}
	if h.source.IsValid() {
		dialer.LocalAddr = &net.TCPAddr{IP: h.source.AsSlice(), Zone: h.source.Zone()}
	}
	conn, err := dialer.DialContext(ctx, h.net, h.addr)
	if err != nil {
		return nil, broken(transport.AtConnect, err)
	}
	s := &session{
		host: h, helo: helo, lmtp: c.cfg.LMTP, secure: c.cfg.Secure, t: c.cfg.Timeouts,
		ctx: ctx, opened: c.cfg.Now(), raw: conn,
	}
	s.use(conn)
	return s, nil
}

func (s *session) use(conn net.Conn) {
	s.conn = conn
	s.r = bufio.NewReaderSize(conn, maxReplyLine+2)
}

// bind makes ctx bound all that follows: its end makes reads and writes fail
// at once. unbind reports false if that has happened.
func (s *session) bind(ctx context.Context) (unbind func() bool) {
	s.ctx = ctx
	conn := s.conn
	return context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
}

// within bounds the next reads and writes. The order matters: a context that
// ends after the check sets the deadline after us.
func (s *session) within(d time.Duration) error {
	end := time.Now().Add(d)
	if !s.until.IsZero() && s.until.Before(end) {
		end = s.until
	}
	if err := s.conn.SetDeadline(end); err != nil {
		return err
	}
	return s.ctx.Err()
}

// greet speaks until the first MAIL may be sent.
func (s *session) greet(withTLS bool) *failure {
	unbind := s.bind(s.ctx)
	defer func() { unbind() }()
	greeting, _, err := s.read(s.t.Greeting)
	if err != nil {
		return broken(transport.AtGreeting, err)
	}
	if greeting.Code != 220 {
		return refused(transport.AtGreeting, greeting)
	}
	if f := s.hello(); f != nil {
		return f
	}
	if _, offered := s.ext["STARTTLS"]; offered && withTLS {
		if f := s.startTLS(); f != nil {
			return f
		}
	}
	if s.tls == "" {
		return s.demandTLS()
	}
	unbind()
	unbind = s.bind(s.ctx)
	// What was offered in clear text is forgotten (RFC 3207 4.2). A peer may
	// break a TLS 1.3 handshake only now.
	f := s.hello()
	if f != nil && !f.remote {
		f.at = transport.AtTLS
	}
	return f
}

// hello is EHLO, with HELO for peers that don't know it (RFC 5321 3.2).
func (s *session) hello() *failure {
	verb := "EHLO"
	if s.lmtp {
		verb = "LHLO"
	}
	reply, lines, err := s.command(verb + " " + s.helo)
	if err != nil {
		return broken(transport.AtHello, err)
	}
	s.ext = map[string]string{}
	if reply.OK() {
		for _, line := range lines[1:] {
			keyword, param, _ := strings.Cut(line, " ")
			s.ext[strings.ToUpper(keyword)] = param
		}
		return nil
	}
	if !reply.Permanent() || s.lmtp {
		return refused(transport.AtHello, reply)
	}
	if reply, _, err = s.command("HELO " + s.helo); err != nil {
		return broken(transport.AtHello, err)
	}
	if !reply.OK() {
		return refused(transport.AtHello, reply)
	}
	return nil
}

// errInjected is text that came in clear before TLS and would be read as if
// it had come inside (CVE-2011-0411 turned round).
var errInjected = errors.New("text after the reply to STARTTLS")

// errNoTLS is a host without the TLS that is demanded.
var errNoTLS = mail.Status{Code: 451, Enhanced: "4.7.4", Text: "TLS is demanded, and the host doesn't offer it"}

// demandTLS is the failure of a session that must not go on in clear.
func (s *session) demandTLS() *failure {
	if s.secure == nil {
		return nil
	}
	return &failure{at: transport.AtTLS, status: errNoTLS, err: errors.New(errNoTLS.Text)}
}

// tlsConfig is the demanded one for the host's name, or the opportunistic one.
func (s *session) tlsConfig() *tls.Config {
	name := strings.Trim(s.host.name, "[]")
	if s.secure != nil {
		cfg := s.secure.Clone()
		if cfg.ServerName == "" {
			cfg.ServerName = name
		}
		return cfg
	}
	return &tls.Config{
		ServerName: name,
		// Opportunistic: an old version and any certificate are better than
		// clear text (RFC 7435).
		InsecureSkipVerify: true,
		MinVersion:         tls.VersionTLS10,
	}
}

// startTLS upgrades the connection. A peer that refuses goes on in clear.
func (s *session) startTLS() *failure {
	s.until = time.Now().Add(s.t.TLS)
	defer func() { s.until = time.Time{} }()
	reply, _, err := s.command("STARTTLS")
	if err != nil {
		return broken(transport.AtTLS, err)
	}
	if reply.Code == 421 {
		return refused(transport.AtTLS, reply)
	}
	if reply.Code != 220 {
		return nil
	}
	if s.r.Buffered() > 0 {
		f := broken(transport.AtTLS, errInjected)
		f.remote = true // plain would only serve who injected
		f.status.Text = errInjected.Error()
		return f
	}
	conn := tls.Client(s.conn, s.tlsConfig())
	if err := s.within(s.t.TLS); err != nil {
		return broken(transport.AtTLS, err)
	}
	if err := conn.HandshakeContext(s.ctx); err != nil {
		return broken(transport.AtTLS, err)
	}
	state := conn.ConnectionState()
	s.tls = tls.VersionName(state.Version) + " " + tls.CipherSuiteName(state.CipherSuite)
	s.use(conn)
	return nil
}

// command sends one line and reads its reply.
func (s *session) command(line string) (mail.Status, []string, error) {
	if err := s.say([]byte(line + "\r\n")); err != nil {
		return mail.Status{}, nil, err
	}
	return s.read(s.t.Command)
}

// say sends command lines. What came before they were sent answers nothing,
// and would shift every reply after it.
func (s *session) say(lines []byte) error {
	if s.r.Buffered() > 0 {
		s.broken = true
		return fmt.Errorf("%w: one that nothing was asked for", errReply)
	}
	return s.write(lines, s.t.Command)
}

func (s *session) write(b []byte, d time.Duration) error {
	if err := s.within(d); err != nil {
		return err
	}
	_, err := s.conn.Write(b)
	return err
}

// read is one whole reply within d, however slowly its bytes drip.
func (s *session) read(d time.Duration) (mail.Status, []string, error) {
	if err := s.within(d); err != nil {
		return mail.Status{}, nil, err
	}
	reply, lines, err := readReply(s.r)
	if err != nil {
		s.broken = true
	}
	return reply, lines, err
}

// sizeLimit is the peer's SIZE (RFC 1870); 0: none is known.
func (s *session) sizeLimit() int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(s.ext["SIZE"]), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

func (s *session) offers(keyword string) bool {
	_, ok := s.ext[keyword]
	return ok
}

// drop closes at once, without a word: a farewell inside TLS could block.
func (s *session) drop() {
	s.broken = true
	_ = s.raw.Close()
}

// quit takes leave (RFC 5321 4.1.1.10) without waiting for the reply, which
// says nothing that matters.
func (s *session) quit() {
	if !s.broken {
		_ = s.conn.SetDeadline(time.Now().Add(time.Second))
		if _, err := s.conn.Write([]byte("QUIT\r\n")); err == nil {
			_ = s.conn.Close()
		}
	}
	s.drop()
}
