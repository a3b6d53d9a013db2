// Package fakeqm is a scripted QMQP or QMTP server for tests: it records every
// message with its envelope, as it came, and answers as it is told. It has a
// reader of its own, so that it can be the oracle of the code under test.
package fakeqm

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
)

// Config is how a server behaves. The zero value is a QMTP server that takes
// everything.
type Config struct {
	QMQP bool
	TLS  *tls.Config // from the first octet; nil: in clear
	// Answer is the answer for a recipient, with QMQP for "" only, such as
	// "Zlater"; empty: the server hangs up instead. Nil: "Kok".
	Answer func(recipient string) string
	Raw    string // sent exactly so instead of the answers
	// HangUpAt closes the connection after so many octets of a message; 0: never.
	HangUpAt int
}

// Message is what came whole.
type Message struct {
	Content string // as it came, without QMTP's first octet
	Lines   byte   // QMTP's first octet; 0 with QMQP
	From    string
	To      []string
}

// Server is a running fake.
type Server struct {
	cfg Config
	l   net.Listener
	wg  sync.WaitGroup

	mu       sync.Mutex
	messages []Message
	open     map[net.Conn]bool
}

// Start listens on a free port of 127.0.0.1 and serves until Close.
func Start(cfg Config) (*Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, l: l, open: map[net.Conn]bool{}}
	s.wg.Go(s.accept)
	return s, nil
}

// Port is where it listens.
func (s *Server) Port() int { return s.l.Addr().(*net.TCPAddr).Port }

// Close ends it.
func (s *Server) Close() {
	s.l.Close()
	s.mu.Lock()
	for c := range s.open {
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// Messages are those that came whole.
func (s *Server) Messages() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Message{}, s.messages...)
}

func (s *Server) accept() {
	for {
		c, err := s.l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.open[c] = true
		s.mu.Unlock()
		s.wg.Go(func() {
			defer c.Close()
			if s.cfg.TLS != nil {
				c = tls.Server(c, s.cfg.TLS)
			}
			for s.serve(c, bufio.NewReader(c)) == nil {
				if s.cfg.QMQP {
					return
				}
			}
			if s.cfg.TLS != nil {
				c.Close()
			}
		})
	}
}

// serve takes one message.
func (s *Server) serve(c net.Conn, in *bufio.Reader) error {
	m, err := s.read(in)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.messages = append(s.messages, m)
	s.mu.Unlock()
	if s.cfg.Raw != "" {
		_, err := io.WriteString(c, s.cfg.Raw)
		return err
	}
	to := m.To
	if s.cfg.QMQP {
		to = []string{""}
	}
	for _, one := range to {
		answer := "Kok"
		if s.cfg.Answer != nil {
			answer = s.cfg.Answer(one)
		}
		if answer == "" {
			return io.EOF
		}
		if _, err := fmt.Fprintf(c, "%d:%s,", len(answer), answer); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) read(in *bufio.Reader) (m Message, err error) {
	if s.cfg.QMQP {
		return s.readQMQP(in)
	}
	text, err := s.netstring(in)
	if err != nil {
		return m, err
	}
	if text == "" {
		return m, io.ErrUnexpectedEOF
	}
	m.Lines, m.Content = text[0], text[1:]
	if m.From, err = s.netstring(in); err != nil {
		return m, err
	}
	all, err := s.netstring(in)
	if err != nil {
		return m, err
	}
	m.To, err = s.list(all)
	return m, err
}

func (s *Server) readQMQP(in *bufio.Reader) (m Message, err error) {
	all, err := s.netstring(in)
	if err != nil {
		return m, err
	}
	parts, err := s.list(all)
	if err != nil {
		return m, err
	}
	if len(parts) < 3 {
		return m, io.ErrUnexpectedEOF
	}
	return Message{Content: parts[0], From: parts[1], To: parts[2:]}, nil
}

func (s *Server) list(all string) (parts []string, err error) {
	for r := bufio.NewReader(strings.NewReader(all)); ; {
		if _, err := r.Peek(1); err == io.EOF {
			return parts, nil
		}
		part, err := s.netstring(r)
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
}

func (s *Server) netstring(in *bufio.Reader) (string, error) {
	digits, err := in.ReadString(':')
	if err != nil {
		return "", err
	}
	n, err := strconv.Atoi(strings.TrimSuffix(digits, ":"))
	if err != nil || n < 0 {
		return "", fmt.Errorf("length %q: %w", digits, err)
	}
	if at := s.cfg.HangUpAt; at > 0 && n > at {
		_, _ = io.CopyN(io.Discard, in, int64(at))
		return "", io.ErrUnexpectedEOF
	}
	b := make([]byte, n+1)
	if _, err := io.ReadFull(in, b); err != nil {
		return "", err
	}
	if b[n] != ',' {
		return "", fmt.Errorf("no comma behind %d octets", n)
	}
	return string(b[:n]), nil
}
