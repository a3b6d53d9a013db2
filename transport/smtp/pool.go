package smtp

import (
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

// pool keeps greeted sessions for the next message to the same peer from the
// same identity.
type pool struct {
	cfg    Config
	mu     sync.Mutex
	idle   map[key][]*idler
	n      int
	closed bool
}

// key is what two messages must share to share a connection.
type key struct {
	host host
	helo string
}

type idler struct {
	s     *session
	timer *time.Timer
}

func newPool(cfg Config) *pool { return &pool{cfg: cfg, idle: map[key][]*idler{}} }

// keyOf leaves out what does not change the connection.
func keyOf(h host, helo string) key {
	h.pref, h.plain = 0, false
	return key{h, helo}
}

// get takes the session used last that still lives; nil if there is none.
func (p *pool) get(h host, helo string) *session {
	for {
		s := p.take(h, helo)
		if s == nil || quiet(s.raw) {
			return s
		}
		s.drop()
	}
}

func (p *pool) take(h host, helo string) *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := keyOf(h, helo)
	all := p.idle[k]
	if len(all) == 0 {
		return nil
	}
	i := all[len(all)-1]
	p.remove(k, i)
	i.timer.Stop()
	return i.s
}

// quiet reports whether a peer has neither closed nor said anything while its
// connection idled. What it said would be taken for the next reply.
func quiet(c net.Conn) bool {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	silent := false
	err = raw.Control(func(fd uintptr) {
		_, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		silent = errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EWOULDBLOCK)
	})
	return err == nil && silent
}

// has reports whether a session to h is idle.
func (p *pool) has(h host, helo string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.idle[keyOf(h, helo)]) > 0
}

// put keeps s for reuse, or ends it.
func (p *pool) put(s *session) {
	if !p.keep(s) {
		s.quit()
	}
}

func (p *pool) keep(s *session) bool {
	worn := s.broken || s.r.Buffered() > 0 || s.sent >= p.cfg.MaxMessages || p.cfg.Now().Sub(s.opened) >= p.cfg.MaxAge
	if worn || p.cfg.Idle < 0 {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.n >= p.cfg.MaxIdle {
		return false
	}
	k := keyOf(s.host, s.helo)
	s.kept = true
	i := &idler{s: s}
	p.idle[k] = append(p.idle[k], i)
	p.n++
	i.timer = time.AfterFunc(p.cfg.Idle, func() { p.expire(k, i) })
	return true
}

// expire ends a session that nobody wanted in time.
func (p *pool) expire(k key, i *idler) {
	p.mu.Lock()
	found := p.remove(k, i)
	p.mu.Unlock()
	if found {
		i.s.quit()
	}
}

// remove takes i out; false: somebody else did. mu is held.
func (p *pool) remove(k key, i *idler) bool {
	all := p.idle[k]
	for n := range all {
		if all[n] != i {
			continue
		}
		all = append(all[:n], all[n+1:]...)
		if len(all) == 0 {
			delete(p.idle, k)
		} else {
			p.idle[k] = all
		}
		p.n--
		return true
	}
	return false
}

func (p *pool) close() {
	p.mu.Lock()
	var all []*idler
	for _, is := range p.idle {
		all = append(all, is...)
	}
	p.idle, p.n, p.closed = map[key][]*idler{}, 0, true
	p.mu.Unlock()
	for _, i := range all {
		i.timer.Stop()
		i.s.quit()
	}
}
