// Package fakedns is a name server for tests: it answers over UDP and TCP from
// a zone given as text, and misbehaves for names that begin with a label that
// says how: "servfail.", "refused.", "silence." (an answer to nothing) and
// "cut." (whose answers are whole over TCP only).
package fakedns

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/miekg/dns"
)

// Server is a running name server. Its methods are safe for concurrent use.
type Server struct {
	// NoEDNS makes it an old server that refuses EDNS.
	NoEDNS atomic.Bool

	addr    string
	mu      sync.Mutex
	records map[string][]dns.RR
	asked   atomic.Int64
	tcp     atomic.Int64
	stop    []func()
}

// Start serves the records of zone, in the syntax of zone files with whole
// names, on a free port of 127.0.0.1.
func Start(zone string) (*Server, error) { return StartAt("127.0.0.1:0", zone) }

// StartAt is Start on an address; port 0 is a free one.
func StartAt(addr, zone string) (*Server, error) {
	s := &Server{}
	if err := s.Set(zone); err != nil {
		return nil, err
	}
	pc, l, err := listen(addr)
	if err != nil {
		return nil, err
	}
	s.addr = pc.LocalAddr().String()
	for _, d := range []*dns.Server{{PacketConn: pc, Handler: s}, {Listener: l, Handler: s}} {
		started, done := make(chan struct{}), make(chan struct{})
		d.NotifyStartedFunc = func() { close(started) }
		go func() { defer close(done); _ = d.ActivateAndServe() }()
		<-started
		s.stop = append(s.stop, func() { _ = d.Shutdown(); <-done })
	}
	return s, nil
}

// listen finds a port that is free for UDP and TCP.
func listen(addr string) (net.PacketConn, net.Listener, error) {
	var last error
	for range 10 {
		pc, err := net.ListenPacket("udp", addr)
		if err != nil {
			return nil, nil, fmt.Errorf("fake name server: %w", err)
		}
		l, err := net.Listen("tcp", pc.LocalAddr().String())
		if err == nil {
			return pc, l, nil
		}
		last = err
		_ = pc.Close()
	}
	return nil, nil, fmt.Errorf("fake name server: %w", last)
}

// Addr is where it listens, as host:port.
func (s *Server) Addr() string { return s.addr }

// Asked is how many questions came, AskedTCP how many of them over TCP.
func (s *Server) Asked() int64    { return s.asked.Load() }
func (s *Server) AskedTCP() int64 { return s.tcp.Load() }

// Close ends it.
func (s *Server) Close() {
	for _, stop := range s.stop {
		stop()
	}
}

// Set replaces the zone.
func (s *Server) Set(zone string) error {
	records := map[string][]dns.RR{}
	for line := range strings.Lines(zone) {
		rr, err := dns.NewRR(line)
		if err != nil {
			return fmt.Errorf("record %q: %w", line, err)
		}
		if rr != nil {
			name := strings.ToLower(rr.Header().Name)
			records[name] = append(records[name], rr)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = records
	return nil
}

// ServeDNS answers one question.
func (s *Server) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	s.asked.Add(1)
	_, tcp := w.RemoteAddr().(*net.TCPAddr)
	if tcp {
		s.tcp.Add(1)
	}
	m := new(dns.Msg).SetReply(q)
	name := strings.ToLower(q.Question[0].Name)
	label, _, _ := strings.Cut(name, ".")
	switch {
	case s.NoEDNS.Load() && q.IsEdns0() != nil:
		m.Rcode = dns.RcodeFormatError
	case label == "servfail":
		m.Rcode = dns.RcodeServerFailure
	case label == "refused":
		m.Rcode = dns.RcodeRefused
	case label == "silence":
		m = new(dns.Msg)
	case label == "cut" && !tcp:
		m.Truncated = true
	default:
		s.answer(m, name, q.Question[0].Qtype)
	}
	_ = w.WriteMsg(m)
}

// answer follows aliases, as a recursive server does.
func (s *Server) answer(m *dns.Msg, name string, qtype uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for range 5 {
		records, ok := s.records[name]
		if !ok {
			m.Rcode = dns.RcodeNameError
			m.Ns = append(m.Ns, &dns.SOA{
				Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 60},
				Ns:  "ns.example.", Mbox: "x.example.", Serial: 1, Minttl: 30,
			})
			return
		}
		next := ""
		for _, rr := range records {
			c, alias := rr.(*dns.CNAME)
			if rr.Header().Rrtype == qtype || alias {
				m.Answer = append(m.Answer, rr)
			}
			if alias {
				next = strings.ToLower(c.Target)
			}
		}
		if next == "" {
			return
		}
		name = next
	}
}
