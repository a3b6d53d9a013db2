package qmtp

import (
	"context"
	"net"
	"regexp"
	"time"

	"qstream/mail"
	"qstream/transport"
	"qstream/wire"
)

// session is one connection.
type session struct {
	conn  net.Conn
	io    time.Duration
	until time.Time       // bounds several steps together; zero: nothing
	ctx   context.Context // bounds the present step
	tls   string
	in    *wire.Reader
}

func newSession(conn net.Conn, io time.Duration) *session {
	s := &session{io: io}
	s.use(conn)
	return s
}

func (s *session) use(conn net.Conn) {
	s.conn = conn
	s.in = wire.NewReader(conn)
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
func (s *session) within() error {
	end := time.Now().Add(s.io)
	if !s.until.IsZero() && s.until.Before(end) {
		end = s.until
	}
	if err := s.conn.SetDeadline(end); err != nil {
		return err
	}
	return s.ctx.Err()
}

func (s *session) write(b []byte) error {
	if err := s.within(); err != nil {
		return err
	}
	_, err := s.conn.Write(b)
	return err
}

// finish sends the last octets.
func (s *session) finish(tail []byte) *failure {
	if err := s.within(); err != nil {
		return broken(transport.AtContent, err)
	}
	if n, err := s.conn.Write(tail); err != nil && n < len(tail) {
		return broken(transport.AtContent, err) // the end did not leave this machine
	}
	return nil
}

// enhanced is how servers of the qmail world tell an enhanced code.
var enhanced = regexp.MustCompile(`#([245]\.\d{1,3}\.\d{1,3})`)

// answer reads one answer.
func (s *session) answer() (mail.Status, error) {
	if err := s.within(); err != nil {
		return mail.Status{}, err
	}
	verdict, text, err := s.in.ReadAnswer()
	if err != nil {
		return mail.Status{}, err
	}
	status := mail.Status{Code: 250, Text: mail.Printable(text)}
	switch verdict {
	case wire.Deferred:
		status.Code = 451
	case wire.Refused:
		status.Code = 550
	}
	class := "245"[map[wire.Verdict]int{wire.Accepted: 0, wire.Deferred: 1, wire.Refused: 2}[verdict]]
	status.Enhanced = string(class) + ".0.0"
	if m := enhanced.FindStringSubmatch(text); m != nil && m[1][0] == class {
		status.Enhanced = m[1]
	}
	return status, nil
}
