// Package fakemx is a scripted mail server for tests: an SMTP or LMTP sink
// that records every message with its envelope, answers any client line as it
// is told to, waits, holds the last reply, hangs up, or breaks TLS.
//
// It is strict where a client's mistake must show: content ends only at
// CRLF.CRLF, and its bytes are kept as they came. It has a reader of its own,
// so that it can be the oracle of the code under test.
package fakemx

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// Config is how a server behaves. The zero value is an SMTP server on a free
// port of 127.0.0.1 that accepts everything.
type Config struct {
	Addr string // host:port, or a path with a slash for a Unix socket
	Name string // default "mx.example"
	LMTP bool
	// Extensions of EHLO; nil: PIPELINING, 8BITMIME, SMTPUTF8, DSN,
	// ENHANCEDSTATUSCODES and SIZE 104857600.
	Extensions []string
	TLS        bool // offer STARTTLS with a certificate made at the start
	BadTLS     bool // offer it and answer the handshake with garbage
	Rules      []Rule
	DigestOnly bool   // keep size and hash of content, not its bytes
	IDHeader   string // header field that messages are counted by; default "X-Test-Id"
	// OnMessage is called for each message just before its last reply is sent.
	OnMessage func(Message)
}

// Rule answers client lines that begin with Line, without regard to case. The
// first rule that matches and is not used up decides. Beside real lines there
// are "CONNECT" for the greeting, "." for the end of data and ". ADDRESS" for
// one recipient's reply after it with LMTP.
type Rule struct {
	Line   string
	Times  int           // how often it applies; 0: always
	After  int           // how many matches pass it by first
	Delay  time.Duration // before answering
	Hold   <-chan struct{}
	Reply  string // lines joined by "\n" get hyphens; empty: the usual reply
	Raw    string // sent exactly so instead of Reply
	Drop   bool   // hang up instead of answering
	Hangup bool   // hang up after answering
	Half   bool   // close our side for writing after answering, and go on reading
	Silent bool   // answer nothing any more, and go on reading
	Reset  bool   // hang up with a TCP reset
	// Stall, when set, stops reading after answering until it is closed.
	Stall <-chan struct{}
}

// Message is what a client sent up to its final dot.
type Message struct {
	Conn       int // number of its connection, from 1
	Client     netip.AddrPort
	HELO       string
	TLS        bool
	From       string // as between the angle brackets
	FromParams string
	Rcpts      []string // accepted ones
	RcptParams []string
	Data       []byte // unstuffed; nil with DigestOnly
	Size       int
	SHA256     [32]byte
	ID         string // of the IDHeader
	Replies    []string
	Accepted   bool // taken by a 2yz reply (LMTP: at least one), even if that was lost
	Time       time.Time
}

// Server is a running fake. Its methods are safe for concurrent use.
type Server struct {
	cfg Config
	l   net.Listener
	tls *tls.Config
	wg  sync.WaitGroup
	// closing is closed by Close, for those who wait
	closing chan struct{}

	mu       sync.Mutex
	rules    []*rule
	conns    map[net.Conn]bool
	total    int
	messages []Message
	counts   map[string]int
	lines    []string
	changed  chan struct{}
	closed   bool
}

type rule struct {
	Rule
	seen, used int
}

// Start listens and serves until Close.
func Start(cfg Config) (*Server, error) {
	if cfg.Name == "" {
		cfg.Name = "mx.example"
	}
	if cfg.IDHeader == "" {
		cfg.IDHeader = "X-Test-Id"
	}
	if cfg.Extensions == nil {
		cfg.Extensions = []string{"PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES", "SIZE 104857600"}
	}
	s := &Server{cfg: cfg, conns: map[net.Conn]bool{}, counts: map[string]int{}, changed: make(chan struct{}), closing: make(chan struct{})}
	s.SetRules(cfg.Rules...)
	if cfg.TLS || cfg.BadTLS {
		cert, err := certificate(cfg.Name)
		if err != nil {
			return nil, err
		}
		s.tls = &tls.Config{Certificates: []tls.Certificate{cert}}
	}
	network, addr := "tcp", cfg.Addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	if strings.Contains(addr, "/") {
		network = "unix"
		_ = os.Remove(addr)
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		return nil, fmt.Errorf("fake mail server: %w", err)
	}
	s.l = l
	s.wg.Go(s.accept)
	return s, nil
}

// Addr is where it listens, host:port or a path.
func (s *Server) Addr() string { return s.l.Addr().String() }

// Roots hold the certificate of its TLS; nil without.
func (s *Server) Roots() *x509.CertPool {
	cert, err := x509.ParseCertificate(s.Certificate())
	if err != nil {
		return nil
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return pool
}

// Certificate is that of its TLS (DER); nil without.
func (s *Server) Certificate() []byte {
	if s.tls == nil {
		return nil
	}
	return s.tls.Certificates[0].Certificate[0]
}

// Port is the TCP port.
func (s *Server) Port() int { return s.l.Addr().(*net.TCPAddr).Port }

// SetRules replaces the rules and their counts.
func (s *Server) SetRules(rules ...Rule) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = nil
	for _, r := range rules {
		s.rules = append(s.rules, &rule{Rule: r})
	}
}

// Close hangs up everywhere and waits until all is over.
func (s *Server) Close() {
	s.mu.Lock()
	if !s.closed {
		close(s.closing)
	}
	s.closed = true
	_ = s.l.Close()
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// Messages are those that came to their final dot, in that order.
func (s *Server) Messages() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.messages)
}

// Accepted are the messages that were taken.
func (s *Server) Accepted() []Message {
	return slices.DeleteFunc(s.Messages(), func(m Message) bool { return !m.Accepted })
}

// Counts says how often each id was accepted.
func (s *Server) Counts() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]int{}
	for id, n := range s.counts {
		out[id] = n
	}
	return out
}

// Lines are all client lines of all connections, content left out.
func (s *Server) Lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.lines)
}

// Connections is how many were accepted so far.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}

// Open is how many are open now.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Wait returns the accepted messages once there are n, or ctx's error.
func (s *Server) Wait(ctx context.Context, n int) ([]Message, error) {
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		got := s.Accepted()
		if len(got) >= n {
			return got, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return got, fmt.Errorf("%d of %d messages: %w", len(got), n, ctx.Err())
		}
	}
}

func (s *Server) accept() {
	for {
		c, err := s.l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			_ = c.Close()
			return
		}
		s.total++
		s.conns[c] = true
		n := s.total
		s.mu.Unlock()
		s.wg.Go(func() {
			newConn(s, c, n).serve()
			_ = c.Close()
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
		})
	}
}

// match is the rule for a line; nil: none.
func (s *Server) match(line string) *Rule {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.rules {
		if len(line) < len(r.Line) || !strings.EqualFold(line[:len(r.Line)], r.Line) {
			continue
		}
		r.seen++
		if r.seen <= r.After || r.Times > 0 && r.used >= r.Times {
			continue
		}
		r.used++
		out := r.Rule
		return &out
	}
	return nil
}

func (s *Server) heard(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, line)
}

// record keeps a message whose fate is known.
func (s *Server) record(m Message) {
	m.Size, m.SHA256, m.ID = len(m.Data), sha256.Sum256(m.Data), headerField(m.Data, s.cfg.IDHeader)
	if s.cfg.DigestOnly {
		m.Data = nil
	}
	s.mu.Lock()
	s.messages = append(s.messages, m)
	if m.Accepted && m.ID != "" {
		s.counts[m.ID]++
	}
	close(s.changed)
	s.changed = make(chan struct{})
	s.mu.Unlock()
	if s.cfg.OnMessage != nil {
		s.cfg.OnMessage(m)
	}
}

// headerField is the value of the first field of that name.
func headerField(data []byte, name string) string {
	for line := range bytes.Lines(data) {
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		key, value, ok := bytes.Cut(line, []byte(":"))
		if ok && strings.EqualFold(string(key), name) {
			return string(bytes.TrimSpace(value))
		}
	}
	return ""
}
