package load

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Profile is how one host of a sink treats mail. The zero Profile takes
// everything at once.
type Profile struct {
	Hang   bool          // takes connections and never says a word
	Banner time.Duration // until the greeting
	Data   time.Duration // from the final dot to the reply
	Reply  string        // to the final dot instead of 250, such as "451 4.3.0 try later"
	Rcpt   string        // to RCPT instead of 250
	Rate   int           // bytes a second that a connection takes; 0: no limit
}

// Host is one address of a sink.
type Host struct {
	IP      string // such as 127.0.0.2
	Port    int    // 0: a free one that all such hosts share
	Profile Profile
}

// Arrival is one recipient's mail at the sink.
type Arrival struct {
	ID      uint64
	At      int64  // just before the 250 was written; the machine's monotonic clock
	Rcpt    uint16 // which recipient of the mail
	Host    uint16 // which of the sink's hosts
	Corrupt bool   // the checksum is wrong
}

// server is a sink: SMTP servers on some addresses of one port that check what
// comes and forget all but its number and time.
type server struct {
	clock clock
	port  int
	lists []net.Listener

	mu       sync.Mutex
	arrivals []Arrival
	count    int // of arrivals since the start
	nameless int // mails without an id header
	conns    map[net.Conn]bool
	closed   bool
}

// newServer listens on all hosts at one free port.
func newServer(hosts []Host) (*server, error) {
	clock, err := newClock()
	if err != nil {
		return nil, err
	}
	// A port that is free on the first address may be taken on another.
	for range 20 {
		s := &server{clock: clock, conns: map[net.Conn]bool{}}
		if err = s.listen(hosts); err == nil {
			for i, l := range s.lists {
				go s.accept(l, uint16(i), hosts[i].Profile)
			}
			return s, nil
		}
		s.close()
	}
	return nil, err
}

func (s *server) listen(hosts []Host) error {
	if len(hosts) == 0 {
		return errors.New("a sink needs hosts")
	}
	for _, h := range hosts {
		port := h.Port
		if port == 0 {
			port = s.port
		}
		l, err := net.Listen("tcp", net.JoinHostPort(h.IP, fmt.Sprint(port)))
		if err != nil {
			return err
		}
		if h.Port == 0 {
			s.port = l.Addr().(*net.TCPAddr).Port
		}
		s.lists = append(s.lists, l)
	}
	return nil
}

func (s *server) accept(l net.Listener, host uint16, p Profile) {
	for {
		conn, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(10 * time.Millisecond) // out of descriptors
			continue
		}
		if !s.admit(conn) {
			_ = conn.Close()
			return
		}
		go func() {
			defer s.dismiss(conn)
			if p.Hang {
				buf := make([]byte, 512)
				for err == nil {
					_, err = conn.Read(buf)
				}
				return
			}
			r := receiver{server: s, conn: conn, host: host, profile: p}
			r.run()
		}()
	}
}

func (s *server) admit(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.conns[conn] = true
	}
	return !s.closed
}

func (s *server) dismiss(conn net.Conn) {
	_ = conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
}

// arrive records one mail for its recipients.
func (s *server) arrive(a Arrival, rcpts []uint16, named bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !named {
		s.nameless++
		return
	}
	a.At = s.clock.now()
	for _, r := range rcpts {
		a.Rcpt = r
		s.arrivals = append(s.arrivals, a)
		s.count++
	}
}

// take returns what arrived since the last take.
func (s *server) take() ([]Arrival, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all, nameless := s.arrivals, s.nameless
	s.arrivals, s.nameless = make([]Arrival, 0, 1<<14), 0
	return all, nameless
}

func (s *server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, l := range s.lists {
		_ = l.Close()
	}
	for c := range s.conns {
		_ = c.Close()
	}
}
