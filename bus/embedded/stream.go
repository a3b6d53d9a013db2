package embedded

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// streamBuffer is what a writer may be ahead of its reader.
const streamBuffer = 64 << 10

// stream is one direction of a connection within the process. What is written
// goes into the slice of a reader who waits, and what is left into a buffer;
// a writer waits while that is full. Each role has one user at a time.
type stream struct {
	mu     sync.Mutex
	reader role
	writer role
	buf    []byte // of streamBuffer octets, made at first need
	start  int    // of what is in buf
	end    int
	want   []byte // of a reader who waits; shrinks as it is filled
	sealed bool   // the writer's side is closed
	gone   bool   // the reader's side is closed
}

// role is who reads or who writes.
type role struct {
	turn     sync.Mutex // held for a whole Read or Write
	wake     *sync.Cond
	deadline time.Time
	timer    *time.Timer
	armed    time.Time // when the timer fires; zero: it doesn't
	waiting  bool
}

func newStream() *stream {
	s := &stream{}
	s.reader.wake, s.writer.wake = sync.NewCond(&s.mu), sync.NewCond(&s.mu)
	return s
}

// expired needs the stream's lock, as all below.
func (r *role) expired() bool { return !r.deadline.IsZero() && !time.Now().Before(r.deadline) }

// wait returns after a change, or when the deadline is over.
func (r *role) wait() {
	r.arm()
	r.waiting = true
	r.wake.Wait()
	r.waiting = false
}

// arm lets the timer wake who waits. One that fires too early does no harm,
// so that it is left alone: each request brings a later deadline, and few
// wait until it is over.
func (r *role) arm() {
	if r.deadline.IsZero() || !r.armed.IsZero() && !r.armed.After(r.deadline) {
		return
	}
	r.armed = r.deadline
	if r.timer != nil {
		r.timer.Reset(time.Until(r.deadline))
		return
	}
	r.timer = time.AfterFunc(time.Until(r.deadline), func() {
		r.wake.L.Lock()
		defer r.wake.L.Unlock()
		r.armed = time.Time{}
		r.wake.Signal()
	})
}

func (r *role) setDeadline(t time.Time) {
	r.wake.L.Lock()
	defer r.wake.L.Unlock()
	r.deadline = t
	if r.waiting {
		r.wake.Signal()
	}
}

func (r *role) stop() {
	if r.timer != nil {
		r.timer.Stop()
	}
}

func (s *stream) read(p []byte) (int, error) {
	s.reader.turn.Lock()
	defer s.reader.turn.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.gone:
			return 0, net.ErrClosed
		case len(p) == 0:
			return 0, nil
		case s.reader.expired():
			return 0, os.ErrDeadlineExceeded
		case s.end > s.start:
			return s.take(p), nil
		case s.sealed:
			return 0, io.EOF
		}
		s.want = p
		s.reader.wait()
		filled := len(p) - len(s.want)
		s.want = nil
		if filled > 0 {
			return filled, nil
		}
	}
}

// take reads from the buffer.
func (s *stream) take(p []byte) int {
	full := s.end-s.start == len(s.buf)
	n := copy(p, s.buf[s.start:s.end])
	s.start += n
	if s.start == s.end {
		s.start, s.end = 0, 0
	}
	if full && s.writer.waiting {
		s.writer.wake.Signal()
	}
	return n
}

func (s *stream) write(p []byte) (n int, err error) {
	s.writer.turn.Lock()
	defer s.writer.turn.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.sealed:
			return n, net.ErrClosed
		case s.writer.expired():
			return n, os.ErrDeadlineExceeded
		case s.gone:
			return n, os.NewSyscallError("write", syscall.EPIPE)
		}
		n += s.give(p[n:])
		if n == len(p) {
			return n, nil
		}
		s.writer.wait()
	}
}

// give hands over what the reader wants and what the buffer has room for.
func (s *stream) give(p []byte) (n int) {
	if len(s.want) > 0 && s.start == s.end {
		n = copy(s.want, p)
		s.want = s.want[n:]
		s.reader.wake.Signal()
	}
	if n == len(p) {
		return n
	}
	if s.buf == nil {
		s.buf = make([]byte, streamBuffer)
	}
	if len(s.buf)-s.end < len(p)-n && s.start > 0 {
		s.end = copy(s.buf, s.buf[s.start:s.end])
		s.start = 0
	}
	more := copy(s.buf[s.end:], p[n:])
	s.end += more
	return n + more
}

// seal ends the writer's side: the reader gets what is there, then io.EOF.
func (s *stream) seal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sealed = true
	s.reader.wake.Signal()
	s.writer.wake.Signal()
	s.writer.stop()
}

// leave ends the reader's side.
func (s *stream) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone, s.buf, s.start, s.end = true, nil, 0, 0
	s.reader.wake.Signal()
	s.writer.wake.Signal()
	s.reader.stop()
}
