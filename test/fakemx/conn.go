package fakemx

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"
)

// errOver ends a connection on purpose.
var errOver = errors.New("over")

// conn is one connection.
type conn struct {
	s    *Server
	c    net.Conn
	r    *bufio.Reader
	n    int
	helo string
	tls  bool
	msg  Message
	mail bool
	// replying is called with each reply to a final dot before it is sent
	replying func(text string)
}

func newConn(s *Server, c net.Conn, n int) *conn {
	return &conn{s: s, c: c, r: bufio.NewReader(c), n: n}
}

// serve speaks until somebody hangs up.
func (c *conn) serve() {
	if _, err := c.answer("CONNECT", "220 "+c.s.cfg.Name+" ready"); err != nil {
		return
	}
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		c.s.heard(line)
		if err := c.command(line); err != nil {
			return
		}
	}
}

func (c *conn) command(line string) error {
	verb, arg, _ := strings.Cut(line, " ")
	switch strings.ToUpper(verb) {
	case "EHLO", "LHLO", "HELO":
		c.helo, c.msg, c.mail = arg, Message{}, false
		_, err := c.answer(line, c.hello(verb))
		return err
	case "STARTTLS":
		return c.startTLS(line)
	case "MAIL":
		return c.from(line)
	case "RCPT":
		return c.rcpt(line)
	case "DATA":
		return c.data(line)
	case "RSET":
		c.msg, c.mail = Message{}, false
		_, err := c.answer(line, "250 2.0.0 reset")
		return err
	case "QUIT":
		if _, err := c.answer(line, "221 2.0.0 bye"); err != nil {
			return err
		}
		return errOver
	}
	_, err := c.answer(line, "500 5.5.1 what?")
	return err
}

func (c *conn) hello(verb string) string {
	lines := []string{"250 " + c.s.cfg.Name}
	if !strings.EqualFold(verb, "HELO") {
		lines = append(lines, c.s.cfg.Extensions...)
		if c.s.tls != nil && !c.tls {
			lines = append(lines, "STARTTLS")
		}
	}
	return strings.Join(lines, "\n")
}

func (c *conn) startTLS(line string) error {
	code, err := c.answer(line, "220 2.0.0 go on")
	if err != nil || code != '2' {
		return err
	}
	if c.s.cfg.BadTLS {
		// Garbage that came before the client's first byte would be injection.
		if _, err := c.r.Peek(1); err != nil {
			return err
		}
		_, _ = c.c.Write([]byte("this is no handshake at all\r\n"))
		return errOver
	}
	t := tls.Server(c.c, c.s.tls)
	if err := t.Handshake(); err != nil {
		return err
	}
	c.c, c.r, c.tls = t, bufio.NewReader(t), true
	return nil
}

func (c *conn) from(line string) error {
	code, err := c.answer(line, "250 2.1.0 sender fine")
	if err == nil && code == '2' {
		c.msg, c.mail = Message{}, true
		c.msg.From, c.msg.FromParams = path(line)
	}
	return err
}

func (c *conn) rcpt(line string) error {
	usual := "250 2.1.5 recipient fine"
	if !c.mail {
		usual = "503 5.5.1 MAIL first"
	}
	code, err := c.answer(line, usual)
	if err == nil && code == '2' && c.mail {
		addr, params := path(line)
		c.msg.Rcpts = append(c.msg.Rcpts, addr)
		c.msg.RcptParams = append(c.msg.RcptParams, params)
	}
	return err
}

// path splits "MAIL FROM:<a> SIZE=1".
func path(line string) (addr, params string) {
	_, rest, _ := strings.Cut(line, "<")
	i := strings.LastIndex(rest, ">")
	if i < 0 {
		return rest, ""
	}
	return rest[:i], strings.TrimSpace(rest[i+1:])
}

func (c *conn) data(line string) error {
	usual := "354 go on"
	if len(c.msg.Rcpts) == 0 {
		usual = "554 5.5.1 no valid recipients"
	}
	code, err := c.answer(line, usual)
	if err != nil || code != '3' {
		return err
	}
	if c.msg.Data, err = readData(c.r); err != nil {
		return err
	}
	c.msg.Conn, c.msg.HELO, c.msg.TLS, c.msg.Time = c.n, c.helo, c.tls, time.Now()
	if a, ok := c.c.RemoteAddr().(*net.TCPAddr); ok {
		c.msg.Client = netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), a.AddrPort().Port())
	}
	err = c.replies()
	c.msg, c.mail, c.replying = Message{}, false, nil
	return err
}

// replies answers the final dot. The message is recorded just before the last
// reply leaves, so that whoever has read the reply finds it.
func (c *conn) replies() error {
	lines := []string{"."}
	usual := "250 2.0.0 taken"
	if c.s.cfg.LMTP {
		lines = nil
		for _, rcpt := range c.msg.Rcpts {
			lines = append(lines, ". "+rcpt)
		}
	}
	if len(c.msg.Rcpts) == 0 {
		usual = "554 5.5.1 no valid recipients"
	}
	left := len(lines)
	recorded := false
	c.replying = func(text string) {
		c.msg.Replies = append(c.msg.Replies, text)
		c.msg.Accepted = c.msg.Accepted || text[0] == '2'
		if left--; left == 0 {
			recorded = true
			c.s.record(c.msg)
		}
	}
	var err error
	for _, line := range lines {
		if _, err = c.answer(line, usual); err != nil {
			break
		}
	}
	if !recorded {
		c.s.record(c.msg)
	}
	return err
}

// readData reads to CRLF.CRLF and takes the doubled dots away.
func readData(r *bufio.Reader) ([]byte, error) {
	var data []byte
	start := true
	for {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return nil, err
		}
		if start && string(line) == ".\r\n" {
			return data, nil
		}
		if start && line[0] == '.' {
			line = line[1:]
		}
		data = append(data, line...)
		start = bytes.HasSuffix(data, []byte("\r\n"))
	}
}

// answer sends what the rules say to a line, or the usual reply. It returns
// the first digit of what was sent, 0 if nothing was.
func (c *conn) answer(line, usual string) (byte, error) {
	r := c.s.match(line)
	if r == nil {
		return c.send(render(usual))
	}
	if !c.wait(r.Delay, r.Hold) {
		return 0, errOver
	}
	switch {
	case r.Reset:
		if t, ok := c.c.(*net.TCPConn); ok {
			_ = t.SetLinger(0)
		}
		return 0, errOver
	case r.Drop:
		return 0, errOver
	case r.Silent:
		_, _ = io.Copy(io.Discard, c.r)
		return 0, errOver
	}
	text := render(usual)
	if r.Reply != "" {
		text = render(r.Reply)
	}
	if r.Raw != "" {
		text = r.Raw
	}
	code, err := c.send(text)
	if err == nil && r.Hangup {
		err = errOver
	}
	if t, ok := c.c.(*net.TCPConn); ok && err == nil && r.Half {
		err = t.CloseWrite()
	}
	if err == nil && r.Stall != nil && !c.wait(0, r.Stall) {
		err = errOver
	}
	return code, err
}

// wait waits for a time and, unless hold is nil, until hold is closed; false:
// the server closes.
func (c *conn) wait(d time.Duration, hold <-chan struct{}) bool {
	select {
	case <-time.After(d):
	case <-c.s.closing:
		return false
	}
	if hold == nil {
		return true
	}
	select {
	case <-hold:
		return true
	case <-c.s.closing:
		return false
	}
}

func (c *conn) send(text string) (byte, error) {
	if c.replying != nil {
		c.replying(text)
	}
	if _, err := c.c.Write([]byte(text)); err != nil {
		return 0, err
	}
	return text[0], nil
}

// render makes "250 a\nb" the lines "250-a" and "250 b".
func render(reply string) string {
	lines := strings.Split(reply, "\n")
	code := reply[:min(3, len(reply))]
	lines[0] = strings.TrimPrefix(strings.TrimPrefix(lines[0], code), " ")
	var b strings.Builder
	for i, line := range lines {
		sep := "-"
		if i == len(lines)-1 {
			sep = " "
		}
		b.WriteString(code + sep + line + "\r\n")
	}
	return b.String()
}
