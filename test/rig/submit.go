package rig

import (
	"bufio"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// Message is what a client hands in.
type Message struct {
	From, To string // To: addresses separated by commas
	MailArgs string // ESMTP parameters of MAIL
	RcptArgs string // and of every RCPT
	Auth     string // "user:password" to sign in with; empty: none
	Content  []byte // lines end in CRLF
}

// Sized is a mail of about n bytes that doesn't compress, in lines of base64.
func Sized(n int) []byte {
	raw := make([]byte, n/78*57) // as many as make a line of 76 and its end
	_, _ = rand.Read(raw)
	text := base64.StdEncoding.EncodeToString(raw)
	var b strings.Builder
	b.WriteString("Subject: large\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: base64\r\n\r\n")
	for len(text) > 76 {
		b.WriteString(text[:76] + "\r\n")
		text = text[76:]
	}
	b.WriteString(text + "\r\n")
	return []byte(b.String())
}

// Token is a random word.
func Token() string {
	raw := make([]byte, 9)
	_, _ = rand.Read(raw)
	return base64.RawURLEncoding.EncodeToString(raw)
}

// Hand speaks SMTP to addr and returns the id of the 250. For large content it
// has a second more for each 256 KiB: many may be on their way at once.
func Hand(addr string, m Message, log io.Writer) (string, error) {
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(Patience + time.Duration(len(m.Content)>>18)*time.Second))
	c := &dialogue{conn: conn, r: bufio.NewReader(conn), log: log}
	c.want("2")
	c.say("2", "EHLO client.example")
	if user, password, ok := strings.Cut(m.Auth, ":"); ok {
		c.say("235", "AUTH PLAIN %s", base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password)))
	}
	c.say("2", "MAIL FROM:<%s> %s", m.From, m.MailArgs)
	accepted := 0
	for rcpt := range strings.SplitSeq(m.To, ",") {
		if c.say("", "RCPT TO:<%s> %s", rcpt, m.RcptArgs)[0] == '2' {
			accepted++
		}
	}
	if accepted == 0 && c.err == nil {
		c.err = fmt.Errorf("no recipient accepted: %s", c.last)
	}
	c.say("3", "DATA")
	if c.err == nil {
		_, c.err = conn.Write(stuffed(m.Content))
	}
	c.want("2")
	if c.err != nil {
		return "", c.err
	}
	fields := strings.Fields(c.last)
	id := fields[len(fields)-1]
	c.say("2", "QUIT")
	return id, nil
}

// stuffed is content as DATA carries it.
func stuffed(content []byte) []byte {
	text := strings.ReplaceAll(string(content), "\r\n.", "\r\n..")
	if strings.HasPrefix(text, ".") {
		text = "." + text
	}
	if !strings.HasSuffix(text, "\r\n") {
		text += "\r\n"
	}
	return []byte(text + ".\r\n")
}

// dialogue is one client's side of SMTP; the first error stays.
type dialogue struct {
	conn net.Conn
	r    *bufio.Reader
	log  io.Writer
	last string
	err  error
}

// say sends a line and reads the reply, which must start with class.
func (c *dialogue) say(class, format string, args ...any) string {
	if c.err == nil {
		_, c.err = io.WriteString(c.conn, strings.TrimRight(fmt.Sprintf(format, args...), " ")+"\r\n")
	}
	return c.want(class)
}

func (c *dialogue) want(class string) string {
	if c.err != nil {
		return "-"
	}
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			c.err = fmt.Errorf("read reply: %w", err)
			return "-"
		}
		c.last = strings.TrimRight(line, "\r\n")
		fmt.Fprintln(c.log, c.last)
		if len(c.last) < 4 || c.last[3] != '-' {
			break
		}
	}
	if !strings.HasPrefix(c.last, class) {
		c.err = fmt.Errorf("reply %q, wanted %sxx", c.last, class)
	}
	return c.last + " "
}
