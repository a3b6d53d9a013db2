package sinks_test

import (
	"io"
	"net"
	"sync"
	"testing"
)

// gate is a way to a server on which things go wrong.
type gate struct {
	l      net.Listener
	target string
	wg     sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool
	shut  bool        // nobody gets in
	most  int         // octets that a connection carries towards the server before it breaks; 0: all
	stall bool        // it stands still there instead
	mute  func() bool // no answer passes once this is true: the connection breaks
}

func newGate(t *testing.T, target string) *gate {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{l: l, target: target, conns: map[net.Conn]bool{}}
	g.wg.Go(g.accept)
	t.Cleanup(func() {
		_ = l.Close()
		g.cut()
		g.wg.Wait()
	})
	return g
}

func (g *gate) addr() string { return g.l.Addr().String() }

// set changes what goes wrong; connections that are open end.
func (g *gate) set(change func(*gate)) {
	g.mu.Lock()
	g.shut, g.most, g.stall, g.mute = false, 0, false, nil
	change(g)
	g.mu.Unlock()
	g.cut()
}

func (g *gate) cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.conns {
		_ = c.Close()
	}
}

func (g *gate) accept() {
	for {
		near, err := g.l.Accept()
		if err != nil {
			return
		}
		g.wg.Go(func() { g.serve(near) })
	}
}

func (g *gate) serve(near net.Conn) {
	defer near.Close()
	g.mu.Lock()
	shut := g.shut
	g.mu.Unlock()
	if shut {
		return
	}
	far, err := net.Dial("tcp", g.target)
	if err != nil {
		return
	}
	defer far.Close()
	g.mu.Lock()
	g.conns[near], g.conns[far] = true, true
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		delete(g.conns, near)
		delete(g.conns, far)
		g.mu.Unlock()
	}()
	g.wg.Go(func() {
		g.up(far, near)
		_, _ = near.Close(), far.Close()
	})
	g.down(near, far)
}

// up carries what the sink says.
func (g *gate) up(far, near net.Conn) {
	buf, carried := make([]byte, 4096), 0
	for {
		n, err := near.Read(buf)
		g.mu.Lock()
		most, stall := g.most, g.stall
		g.mu.Unlock()
		if most > 0 && carried+n > most {
			if stall {
				_, _ = io.Copy(nothing{}, far) // until somebody gives up
			}
			return
		}
		carried += n
		if _, werr := far.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

type nothing struct{}

func (nothing) Write(p []byte) (int, error) { return len(p), nil }

// down carries the answers.
func (g *gate) down(near, far net.Conn) {
	buf := make([]byte, 4096)
	for {
		n, err := far.Read(buf)
		g.mu.Lock()
		mute := g.mute
		g.mu.Unlock()
		if mute != nil && mute() {
			return
		}
		if _, werr := near.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}
