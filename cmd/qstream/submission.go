package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"qstream/wire"
)

// submission is a dialogue with an SMTP server on a line of our own: no TLS,
// no authentication.
type submission struct {
	conn net.Conn
	text *textproto.Reader
	out  *bufio.Writer
	ehlo []string // keywords offered, upper case
}

const submissionDeadline = 5 * time.Minute

func dialSubmission(ctx context.Context, addr string) (*submission, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	// Ctrl-c ends a dialogue that hangs.
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(submissionDeadline))
	s := &submission{conn: conn, text: textproto.NewReader(bufio.NewReader(conn)), out: bufio.NewWriter(conn)}
	if _, err := s.reply(220); err != nil {
		s.close()
		return nil, fmt.Errorf("greeting of %s: %w", addr, err)
	}
	offered, err := s.command(250, "EHLO localhost")
	if err != nil {
		s.close()
		return nil, err
	}
	for _, line := range strings.Split(offered, "\n")[1:] {
		word, _, _ := strings.Cut(line, " ")
		s.ehlo = append(s.ehlo, strings.ToUpper(word))
	}
	return s, nil
}

func (s *submission) close() {
	_, _ = s.command(221, "QUIT")
	_ = s.conn.Close()
}

// reply reads a reply and makes another code an error.
func (s *submission) reply(want int) (string, error) {
	_, text, err := s.text.ReadResponse(want)
	return text, err
}

func (s *submission) command(want int, line string) (string, error) {
	if strings.ContainsAny(line, "\r\n\x00") {
		return "", fmt.Errorf("%q holds a line end", line)
	}
	if _, err := s.out.WriteString(line + "\r\n"); err != nil {
		return "", err
	}
	if err := s.out.Flush(); err != nil {
		return "", err
	}
	return s.reply(want)
}

// submit hands the message over. It returns the reply to the content and what
// was said to each refused recipient.
func (s *submission) submit(from string, to []string, content []byte) (reply string, refused []string, err error) {
	mailFrom := "MAIL FROM:<" + from + ">" + s.parameters(from, to, content)
	if _, err := s.command(250, mailFrom); err != nil {
		return "", nil, fmt.Errorf("MAIL: %w", err)
	}
	for _, r := range to {
		if _, err := s.command(25, "RCPT TO:<"+r+">"); err != nil {
			refused = append(refused, fmt.Sprintf("%s: %v", r, err))
		}
	}
	if len(refused) == len(to) {
		return "", refused, fmt.Errorf("no recipient was accepted")
	}
	if _, err := s.command(354, "DATA"); err != nil {
		return "", refused, fmt.Errorf("DATA: %w", err)
	}
	w := wire.NewDotWriter(s.out)
	if _, err := w.Write(content); err != nil {
		return "", refused, fmt.Errorf("content: %w", err)
	}
	if err := w.Close(); err != nil {
		return "", refused, err
	}
	if err := s.out.Flush(); err != nil {
		return "", refused, err
	}
	reply, err = s.reply(250)
	return reply, refused, err
}

// parameters are what MAIL has to announce, as far as the server knows them.
func (s *submission) parameters(from string, to []string, content []byte) string {
	var p string
	if slices.Contains(s.ehlo, "SIZE") {
		p += fmt.Sprintf(" SIZE=%d", len(content))
	}
	if !ascii(string(content)) && slices.Contains(s.ehlo, "8BITMIME") {
		p += " BODY=8BITMIME"
	}
	if !ascii(from+strings.Join(to, "")) && slices.Contains(s.ehlo, "SMTPUTF8") {
		p += " SMTPUTF8"
	}
	return p
}

func ascii(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0
}
