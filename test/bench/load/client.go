package load

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"time"
)

// client is one SMTP connection of a source. Its buffers are used again for
// every mail, so that a mail costs no memory.
type client struct {
	conn    *net.TCPConn
	in      [4096]byte
	r, w    int // what of in is unread
	out     []byte
	address []byte
	header  []byte
	vector  [2][]byte
}

// dial connects, and returns when the server took EHLO.
func dial(ctx context.Context, s *Source) (*client, error) {
	d := net.Dialer{Timeout: s.Timeout, KeepAlive: -1}
	if s.Local != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(s.Local)}
	}
	conn, err := d.DialContext(ctx, "tcp", s.Addr)
	if err != nil {
		return nil, err
	}
	c := &client{conn: conn.(*net.TCPConn)}
	_ = conn.SetDeadline(time.Now().Add(s.Timeout))
	code, err := c.reply()
	if err == nil && code == 220 {
		code, err = c.say(append(c.out[:0], "EHLO client.example\r\n"...))
	}
	if err == nil && code != 250 {
		err = fmt.Errorf("no session: reply %d", code)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return c, nil
}

// quit ends the connection as a polite client does.
func (c *client) quit() {
	_, _ = c.say(append(c.out[:0], "QUIT\r\n"...))
	_ = c.conn.Close()
}

// hand hands in one mail and notes its times and its last reply. A refusal is
// no error; the session is reset after it.
func (c *client) hand(s *Source, m *Mail, clock clock, domain string) error {
	_ = c.conn.SetDeadline(time.Now().Add(s.Timeout))
	c.address = recipient(c.address[:0], 0, domain)
	header, body := s.Mails.content(c.header[:0], m.ID, s.From, string(c.address))
	c.header = header
	m.Begun = clock.now()
	var err error
	if s.Pipelining {
		m.Code, err = c.envelopeAtOnce(s, domain)
	} else {
		m.Code, err = c.envelope(s, domain)
	}
	if err != nil {
		return err
	}
	if m.Code != 354 {
		_, err = c.say(append(c.out[:0], "RSET\r\n"...))
		return err
	}
	c.vector = [2][]byte{header, body}
	pieces := net.Buffers(c.vector[:])
	m.Dot = clock.now()
	if _, err := pieces.WriteTo(c.conn); err != nil {
		return err
	}
	m.Code, err = c.reply()
	if err == nil {
		m.Acked = clock.now()
	}
	return err
}

// envelope says MAIL, every RCPT and DATA one after the other and returns the
// first reply that isn't the wanted one, or 354.
func (c *client) envelope(s *Source, domain string) (int, error) {
	code, err := c.say(mailFrom(c.out[:0], s.From))
	for i := 0; i < s.Recipients && err == nil && code == 250; i++ {
		code, err = c.say(rcptTo(c.out[:0], i, domain))
	}
	if err == nil && code == 250 {
		code, err = c.say(append(c.out[:0], "DATA\r\n"...))
	}
	return code, err
}

// envelopeAtOnce is envelope in one write, RFC 2920.
func (c *client) envelopeAtOnce(s *Source, domain string) (int, error) {
	c.out = mailFrom(c.out[:0], s.From)
	for i := range s.Recipients {
		c.out = rcptTo(c.out, i, domain)
	}
	c.out = append(c.out, "DATA\r\n"...)
	code, err := c.say(c.out)
	for i := 0; i <= s.Recipients && err == nil; i++ {
		var next int
		if next, err = c.reply(); code == 250 {
			code = next
		}
	}
	return code, err
}

func mailFrom(buf []byte, from string) []byte {
	return append(append(append(buf, "MAIL FROM:<"...), from...), ">\r\n"...)
}

func rcptTo(buf []byte, n int, domain string) []byte {
	return append(recipient(append(buf, "RCPT TO:<"...), n, domain), ">\r\n"...)
}

// say writes and reads a reply.
func (c *client) say(line []byte) (int, error) {
	c.out = line
	if _, err := c.conn.Write(line); err != nil {
		return 0, err
	}
	return c.reply()
}

// reply reads one reply, of one line or more, and returns its code.
func (c *client) reply() (int, error) {
	for {
		for {
			end := bytes.IndexByte(c.in[c.r:c.w], '\n')
			if end < 0 {
				break
			}
			line := c.in[c.r : c.r+end]
			c.r += end + 1
			if len(line) < 3 || line[0] < '2' || line[0] > '5' {
				return 0, fmt.Errorf("not a reply: %q", line)
			}
			if len(line) > 3 && line[3] == '-' {
				continue
			}
			return int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0'), nil
		}
		if c.r > 0 {
			c.w = copy(c.in[:], c.in[c.r:c.w])
			c.r = 0
		}
		if c.w == len(c.in) {
			return 0, fmt.Errorf("a line of more than %d bytes", len(c.in))
		}
		n, err := c.conn.Read(c.in[c.w:])
		if err != nil {
			return 0, fmt.Errorf("read reply: %w", err)
		}
		c.w += n
	}
}
