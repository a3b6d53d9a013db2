// Package fakeclamd is a clamd of tests: it speaks clamd's sessions on a real
// socket, finds EICAR's text wherever it stands, and does on demand what a
// sick clamd does.
//
// It unpacks nothing: what is found has to stand in the message as it is.
package fakeclamd

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Eicar is what is found.
const Eicar = `X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*`

// Poison breaks the connection of who sends it.
const Poison = "This text breaks a fake clamd."

// Mood is how it does its work.
type Mood struct {
	Hang bool          // takes everything and answers nothing
	Slow time.Duration // before each verdict
}

// Server is a running one.
type Server struct {
	mu       sync.Mutex
	addr     string
	listener net.Listener // nil: down
	conns    map[net.Conn]bool
	mood     Mood
	changed  chan struct{}     // closed when mood changes or it goes down
	known    map[string]string // what else is found, by its text
	version  int               // of the signatures
	scans    int
	running  int
	most     int
	done     sync.WaitGroup
}

// Start listens on loopback.
func Start() (*Server, error) {
	s := &Server{addr: "127.0.0.1:0", conns: map[net.Conn]bool{}, changed: make(chan struct{}), version: 27123}
	return s, s.Up()
}

// Addr is where it listens, also while it is down.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// Scans is how many messages were given to it whole, and how many at once at
// most.
func (s *Server) Scans() (all, most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.scans, s.most
}

// Feel changes its mood, also for scans that are under way.
func (s *Server) Feel(m Mood) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mood = m
	close(s.changed)
	s.changed = make(chan struct{})
}

// Learn makes it find a text from now on, by this name. The version that it
// tells of its signatures grows with official ones only, as clamd's.
func (s *Server) Learn(text, name string, official bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = map[string]string{}
	}
	if s.known[text] = name; official {
		s.version++
	}
}

// Down ends it as a kill does: connections break.
func (s *Server) Down() {
	s.mu.Lock()
	if s.listener != nil {
		_ = s.listener.Close()
		s.listener = nil
	}
	for c := range s.conns {
		_ = c.Close()
	}
	close(s.changed)
	s.changed = make(chan struct{})
	s.mu.Unlock()
	s.done.Wait()
}

// Up listens again, at the same address.
func (s *Server) Up() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil {
		return nil
	}
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		return fmt.Errorf("fake clamd: %w", err)
	}
	s.listener, s.addr = l, l.Addr().String()
	s.done.Go(func() { s.accept(l) })
	return nil
}

func (s *Server) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.listener != l {
			s.mu.Unlock()
			_ = c.Close()
			return
		}
		s.conns[c] = true
		s.done.Go(func() {
			s.serve(c)
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
			_ = c.Close()
		})
		s.mu.Unlock()
	}
}

// serve answers the commands of a session until it breaks.
func (s *Server) serve(c net.Conn) {
	in := bufio.NewReader(c)
	for n := 0; ; {
		command, err := in.ReadString(0)
		if err != nil {
			return
		}
		reply := ""
		switch command {
		case "zIDSESSION\x00":
			continue
		case "zVERSION\x00":
			s.mu.Lock()
			reply = fmt.Sprintf("ClamAV 1.4.6/%d/Wed Nov 18 09:31:11 2026", s.version)
			s.mu.Unlock()
		case "zINSTREAM\x00":
			if reply = s.scan(in); reply == "" {
				return
			}
		default:
			return
		}
		n++
		if !s.calm(reply != "" && command == "zINSTREAM\x00") {
			return
		}
		if _, err := fmt.Fprintf(c, "%d: %s\x00", n, reply); err != nil {
			return
		}
	}
}

// scan reads a message; empty: the connection is to be broken.
func (s *Server) scan(in *bufio.Reader) string {
	var content bytes.Buffer
	for {
		var size uint32
		if binary.Read(in, binary.BigEndian, &size) != nil {
			return ""
		}
		if size == 0 {
			break
		}
		if _, err := io.CopyN(&content, in, int64(size)); err != nil {
			return ""
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scans++
	for text, name := range s.known {
		if bytes.Contains(content.Bytes(), []byte(text)) {
			return "stream: " + name + " FOUND"
		}
	}
	switch {
	case bytes.Contains(content.Bytes(), []byte(Poison)):
		return ""
	case bytes.Contains(content.Bytes(), []byte(Eicar)):
		return "stream: Eicar-Test-Signature FOUND"
	}
	return "stream: OK"
}

// calm waits as long as its mood says; false: it went down.
func (s *Server) calm(scan bool) bool {
	s.mu.Lock()
	if scan {
		s.running++
		s.most = max(s.most, s.running)
		defer func() {
			s.mu.Lock()
			s.running--
			s.mu.Unlock()
		}()
	}
	s.mu.Unlock()
	began := time.Now()
	for {
		s.mu.Lock()
		mood, changed, up := s.mood, s.changed, s.listener != nil
		s.mu.Unlock()
		var over <-chan time.Time
		switch left := mood.Slow - time.Since(began); {
		case !up:
			return false
		case mood.Hang:
		case !scan || left <= 0:
			return true
		default:
			over = time.After(left)
		}
		select {
		case <-changed:
		case <-over:
		}
	}
}
