package listener

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// Limits are a client's times; all but Session are required.
type Limits struct {
	Write     time.Duration // for what is sent
	Data      time.Duration // for the next octets of content
	MinRate   int           // octets of content a second
	RateGrace time.Duration // for which a client may be slower
	Session   time.Duration // for all of it; 0: no limit
}

// ErrDraining ends the wait for a client when the server ends.
var ErrDraining = errors.New("server is shutting down")

// Stream is a client's connection. It sends what is queued before it waits
// for the client, so that answers to what came together go out together. All
// but Drain belong to one goroutine.
type Stream struct {
	Out []byte // not yet sent; Queued looks at it

	limits Limits
	raw    net.Conn // the TCP connection; never changes
	conn   net.Conn // raw, or TLS over it
	end    time.Time
	bad    error // sending failed
	pace   *pace // while content is read

	mu       sync.Mutex
	waiting  bool
	held     bool
	draining bool
}

// NewStream starts the clock of l.
func NewStream(c net.Conn, l Limits) *Stream {
	s := &Stream{limits: l, raw: c, conn: c}
	if l.Session > 0 {
		s.end = time.Now().Add(l.Session)
	}
	return s
}

// flushAt is when answers are sent although the client isn't waited for.
const flushAt = 16 << 10

// Addr is the client's.
func (s *Stream) Addr() netip.AddrPort {
	if t, ok := s.raw.RemoteAddr().(*net.TCPAddr); ok {
		return t.AddrPort()
	}
	return netip.AddrPort{}
}

// Conn is the connection as it is spoken over, for a handshake.
func (s *Stream) Conn() net.Conn { return s.conn }

// Secure goes on over c, which encrypts Conn.
func (s *Stream) Secure(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn = c
}

// Within bounds the next reads and writes, such as a handshake's.
func (s *Stream) Within(d time.Duration) error { return s.conn.SetDeadline(s.at(time.Now().Add(d))) }

func (s *Stream) at(t time.Time) time.Time {
	if !s.end.IsZero() && s.end.Before(t) {
		return s.end
	}
	return t
}

// Pace begins a span in which Read holds the client to the minimum rate, up to
// done. Time that we need ourselves does not count.
func (s *Stream) Pace() (done func()) {
	s.pace = &pace{limits: &s.limits}
	return func() { s.pace = nil }
}

// Read reads from the client.
func (s *Stream) Read(p []byte) (int, error) {
	if err := s.Flush(); err != nil {
		return 0, err
	}
	if s.pace == nil {
		return s.conn.Read(p)
	}
	started := time.Now()
	if err := s.conn.SetReadDeadline(s.at(s.pace.deadline(started))); err != nil {
		return 0, err
	}
	n, err := s.conn.Read(p)
	s.pace.waited(time.Since(started), n)
	return n, err
}

// Queued is to be called when Out has grown: much is sent at once.
func (s *Stream) Queued() {
	if len(s.Out) > flushAt {
		_ = s.Flush() // Failed tells
	}
}

// Flush sends Out.
func (s *Stream) Flush() error {
	if len(s.Out) == 0 || s.bad != nil {
		return s.bad
	}
	if s.bad = s.conn.SetWriteDeadline(time.Now().Add(s.limits.Write)); s.bad == nil {
		_, s.bad = s.conn.Write(s.Out)
	}
	s.Out = s.Out[:0]
	return s.bad
}

// Failed reports that sending failed: nobody listens.
func (s *Stream) Failed() bool { return s.bad != nil }

// Wait says that the client is waited for, for d at most, and may be sent
// away. Came ends it.
func (s *Stream) Wait(d time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining && !s.held {
		return ErrDraining
	}
	s.waiting = true
	return s.conn.SetReadDeadline(s.at(time.Now().Add(d)))
}

// Came ends Wait with what reading came to.
func (s *Stream) Came(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = false
	if s.draining && errors.Is(err, os.ErrDeadlineExceeded) {
		return ErrDraining
	}
	return err
}

// Hold says whether a client that is waited for must not be sent away.
func (s *Stream) Hold(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = on
}

// Drain sends the client away when it is waited for, now or later.
func (s *Stream) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining = true
	if s.waiting && !s.held {
		// An error means that the connection is broken, which its reader sees.
		_ = s.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// Bounds of Linger.
const (
	lingerTime  = time.Second
	lingerBytes = 1 << 20
)

// Linger takes what the client still sends, for a moment: closing at once
// would reset the connection, and the last answer would be lost on the way.
func (s *Stream) Linger() {
	t, ok := s.raw.(*net.TCPConn)
	if !ok || s.bad != nil || t.CloseWrite() != nil || t.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, t, lingerBytes) // whatever ends it, the end is near
}

// pace holds a client to a minimum rate. It counts only the time in which we
// wait for the client.
type pace struct {
	limits *Limits
	spent  time.Duration
	came   int64
}

func (k *pace) deadline(now time.Time) time.Time {
	allowed := k.limits.RateGrace + time.Duration(float64(k.came)/float64(k.limits.MinRate)*float64(time.Second))
	return now.Add(min(k.limits.Data, max(allowed-k.spent, 0)))
}

func (k *pace) waited(d time.Duration, n int) {
	k.spent += d
	k.came += int64(n)
}

// Gone reports that the client has closed its side and all that it sent has
// been read; over TLS, that it has closed its side, since nobody can tell how
// much of what is left is the end of TLS. It may be called at any time while
// nothing is read.
func (s *Stream) Gone() bool {
	sc, ok := s.raw.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return true
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		n, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		gone = s.conn != s.raw && shut(fd) || n == 0 && err == nil || err != nil && !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.EINTR)
	})
	return err != nil || gone
}
