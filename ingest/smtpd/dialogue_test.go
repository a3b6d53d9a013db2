package smtpd

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

// keeper is a backend that keeps what it is given. Addresses choose its
// answers: refuse@ is 550, later@ is 450, break@ an unknown error.
type keeper struct {
	mu    sync.Mutex
	mails []kept
}

type kept struct {
	from    string
	mail    smtp.MailOptions
	to      []string
	rcpts   []smtp.RcptOptions
	content string
}

type keeperSession struct {
	k   *keeper
	now kept
}

func (k *keeper) backend(_ context.Context, p Peer) (smtp.Session, error) {
	if p.HELO == "break" {
		return nil, errors.New("backend broken")
	}
	return &keeperSession{k: k}, nil
}

func (k *keeper) all() []kept {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]kept(nil), k.mails...)
}

func (s *keeperSession) Reset()           { s.now = kept{} }
func (s *keeperSession) Logout() error    { return nil }
func (s *keeperSession) Accepted() string { return "ID" }

func (s *keeperSession) Mail(from string, o *smtp.MailOptions) error {
	s.now = kept{from: from, mail: *o}
	return answer(from)
}

func (s *keeperSession) Rcpt(to string, o *smtp.RcptOptions) error {
	if err := answer(to); err != nil {
		return err
	}
	s.now.to = append(s.now.to, to)
	s.now.rcpts = append(s.now.rcpts, *o)
	return nil
}

func answer(address string) error {
	local, _, _ := strings.Cut(address, "@")
	switch local {
	case "refuse":
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user"}
	case "later":
		return &smtp.SMTPError{Code: 450, EnhancedCode: smtp.EnhancedCodeNotSet, Message: "later"}
	case "bare":
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.NoEnhancedCode, Message: "no code"}
	case "silly":
		return &smtp.SMTPError{Code: 250, Message: "not an error"}
	case "break":
		return errors.New("session broken")
	}
	return nil
}

func (s *keeperSession) Data(r io.Reader) error {
	switch s.now.from {
	case "unread@x":
		return nil
	case "early@x":
		_, _ = io.ReadFull(r, make([]byte, 4))
		return &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 4, 6}, Message: "too many hops"}
	case "deaf@x":
		_, _ = io.Copy(io.Discard, r)
		return nil
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if s.now.from == "fail@x" {
		return errors.New("broker broken")
	}
	s.now.content = string(b)
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	s.k.mails = append(s.k.mails, s.now)
	return nil
}

// serve runs a server for a test and says where.
func serve(t testing.TB, cfg Config) (addr string, k *keeper, stop func()) {
	t.Helper()
	return serveLog(t, cfg, nil)
}

func serveLog(t testing.TB, cfg Config, log *slog.Logger) (addr string, k *keeper, stop func()) {
	t.Helper()
	k = &keeper{}
	if cfg.Hostname == "" {
		cfg.Hostname = "mx.example"
	}
	s, err := New(cfg, k.backend, log, nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(stop)
	return l.Addr().String(), k, stop
}

// line is a client's connection.
type line struct {
	net.Conn
	t  testing.TB
	in *bufio.Reader
}

func connect(t testing.TB, addr string) *line {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return &line{Conn: c, t: t, in: bufio.NewReader(c)}
}

// play speaks a script: "> text" is sent as it is, with CRLF behind it; ">> text"
// without; "< 250 2.0.0" is a reply's code and the start of its text; "< EOF"
// the end.
func (l *line) play(script ...string) {
	l.t.Helper()
	for _, s := range script {
		switch {
		case strings.HasPrefix(s, ">> "):
			l.send(s[3:])
		case strings.HasPrefix(s, "> "):
			l.send(s[2:] + "\r\n")
		case s == "< EOF":
			if rest, err := io.ReadAll(l.in); err != nil || len(rest) > 0 {
				l.t.Fatalf("%q and %v, want the end", rest, err)
			}
		default:
			l.want(strings.TrimPrefix(s, "< "))
		}
	}
}

func (l *line) send(s string) {
	l.t.Helper()
	if _, err := io.WriteString(l, s); err != nil {
		l.t.Fatal(err)
	}
}

func (l *line) want(prefix string) {
	l.t.Helper()
	got, err := l.reply()
	if err != nil || !strings.HasPrefix(got, prefix) {
		l.t.Fatalf("got %q and %v, want %q", got, err, prefix)
	}
}

// reply reads a reply and returns its last line.
func (l *line) reply() (string, error) {
	for {
		s, err := l.in.ReadString('\n')
		if err != nil {
			return s, err
		}
		if len(s) > 3 && s[3] == ' ' {
			return strings.TrimRight(s, "\r\n"), nil
		}
	}
}
