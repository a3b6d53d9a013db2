// Package enginetest is the suite that every engine passes: what a verdict is
// worth when content, patience, or the server or program that it asks fails,
// and that nothing stays open whatever is called off.
package enginetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"go.uber.org/goleak"

	"qstream/engine"
)

// Bad is the word that the Honest server of a suite finds fault with.
const Bad = "Subject: bad indeed"

// Maker says how to try an engine.
type Maker struct {
	// New makes the engine for a server that it waits for so long.
	New func(t *testing.T, network, address string, patience time.Duration) engine.Engine
	// Honest answers one connection as a real server would: content with the
	// word Bad is bad, other content is clean. It returns at the connection's
	// end.
	Honest func(c net.Conn)
	// Own makes an engine that asks no server, instead of New and Honest: as
	// they are together. Its files go to a folder of the test.
	Own func(t *testing.T) engine.Engine
	// Failing are engines without a server whose every scan must fail for the
	// reason that stands beside them.
	Failing map[string]Failing
	// MayEndEarly is an engine that may have its verdict before content is read.
	MayEndEarly bool
}

// Failing is an engine that can't give a verdict.
type Failing struct {
	New    func(t *testing.T) engine.Engine
	Reason engine.Reason
}

// How long the engines under test wait for a server or program: one that
// answers has time on the busiest machine, one that doesn't is given up soon.
const (
	Patience = time.Minute
	Short    = 300 * time.Millisecond
)

// Serve listens on loopback or on a Unix socket until the test ends, and hands
// each connection to handle, which is waited for.
func Serve(t *testing.T, network string, handle func(net.Conn)) (address string) {
	t.Helper()
	where := "127.0.0.1:0"
	if network == "unix" {
		dir, err := os.MkdirTemp("", "qstream-engine-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		where = filepath.Join(dir, "s")
	}
	l, err := net.Listen(network, where)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{handle: handle, open: map[net.Conn]bool{}}
	s.wg.Go(func() { s.accept(l) })
	t.Cleanup(func() {
		_ = l.Close()
		s.end()
		s.wg.Wait()
	})
	return l.Addr().String()
}

type server struct {
	handle func(net.Conn)
	wg     sync.WaitGroup
	mu     sync.Mutex
	open   map[net.Conn]bool
	ended  bool
}

func (s *server) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.ended {
			_ = c.Close()
		}
		s.open[c] = true
		s.mu.Unlock()
		s.wg.Go(func() {
			s.handle(c)
			_ = c.Close()
			s.mu.Lock()
			delete(s.open, c)
			s.mu.Unlock()
		})
	}
}

func (s *server) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for c := range s.open {
		_ = c.Close()
	}
}

// Facts are some for a test.
func Facts(size int64) *engine.Facts {
	return &engine.Facts{MessageID: "01JD0000000000000000000000", HELO: "client.example",
		ReversePath: "sender@client.example", Recipients: []string{"ann@acme.example", "bob@acme.example"}, Size: size}
}

// Ask scans a text.
func Ask(t *testing.T, e engine.Engine, text string) engine.Verdict {
	t.Helper()
	return e.Scan(t.Context(), strings.NewReader(text), Facts(int64(len(text))))
}

// Run tries the engine.
func Run(t *testing.T, m Maker) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	t.Run("honest", func(t *testing.T) { honest(t, m) })
	t.Run("storm", func(t *testing.T) { storm(t, m) })
	if m.Own == nil {
		t.Run("hostile", func(t *testing.T) { hostile(t, m) })
	}
	for name, f := range m.Failing {
		t.Run(name, func(t *testing.T) { failing(t, f) })
	}
}

func message(extra string, size int) string {
	return "From: a@client.example\r\n" + extra + "\r\n\r\n" + strings.Repeat("some text of a line\r\n", size/21)
}

// each tries an engine on each network, or the one that has none.
func (m Maker) each(t *testing.T, try func(*testing.T, engine.Engine)) {
	if m.Own != nil {
		e := m.Own(t)
		defer e.Close()
		try(t, e)
		return
	}
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			e := m.New(t, network, Serve(t, network, m.Honest), Patience)
			defer e.Close()
			try(t, e)
		})
	}
}

func honest(t *testing.T, m Maker) {
	m.each(t, func(t *testing.T, e engine.Engine) {
		for range 3 {
			if v := Ask(t, e, message("Subject: good", 300_000)); v.Outcome != engine.Clean || v.Engine != e.Name() {
				t.Errorf("good mail: %+v", v)
			}
			if v := Ask(t, e, message(Bad, 300_000)); !v.Bad() {
				t.Errorf("bad mail: %+v", v)
			}
		}
		if _, err := e.State(t.Context()); err != nil {
			t.Errorf("state: %v", err)
		}
		t.Run("side by side", func(t *testing.T) { together(t, e) })
		t.Run("content fails", func(t *testing.T) { unreadable(t, e, m.MayEndEarly) })
		t.Run("after a failure", func(t *testing.T) {
			if v := Ask(t, e, message("Subject: good", 100)); v.Outcome != engine.Clean {
				t.Errorf("%+v", v)
			}
		})
		t.Run("called off", func(t *testing.T) { calledOff(t, e) })
	})
}

// failing: no verdict, and no state of mind that a later scan would suffer from.
func failing(t *testing.T, f Failing) {
	e := f.New(t)
	defer e.Close()
	for range 2 {
		begun := time.Now()
		v := Ask(t, e, message("Subject: good", 100_000))
		if v.Outcome != engine.Failed || v.Reason != f.Reason || v.Engine != e.Name() {
			t.Errorf("%+v, want failed for %v", v, f.Reason)
		}
		if took := time.Since(begun); took > 30*time.Second {
			t.Errorf("took %v", took)
		}
		if len(v.Detail) > engine.MaxText {
			t.Errorf("detail of %d bytes", len(v.Detail))
		}
	}
}

// together: nobody gets another's verdict.
func together(t *testing.T, e engine.Engine) {
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			extra := fmt.Sprintf("Subject: good %d", i)
			if i%3 == 0 {
				extra = Bad
			}
			if v := Ask(t, e, message(extra, i*5000)); v.Bad() != (i%3 == 0) || v.Outcome == engine.Failed {
				t.Errorf("%d: %+v", i, v)
			}
		})
	}
	wg.Wait()
}

func unreadable(t *testing.T, e engine.Engine, early bool) {
	for _, size := range []int{0, 10, 200_000} {
		whole := message("Subject: good", 1000+size)
		content := io.MultiReader(strings.NewReader(whole[:size]), iotest.ErrReader(errors.New("a chunk is missing")))
		v := e.Scan(t.Context(), content, Facts(int64(len(whole))))
		if v.Outcome != engine.Failed || v.Reason != engine.Unreadable && !early {
			t.Errorf("after %d bytes: %+v", size, v)
		}
	}
}

func calledOff(t *testing.T, e engine.Engine) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	v := e.Scan(ctx, strings.NewReader(message("Subject: good", 100)), Facts(0))
	if v.Outcome != engine.Failed || v.Reason != engine.Late && v.Reason != engine.Unreachable {
		t.Errorf("%+v", v)
	}
}

func hostile(t *testing.T, m Maker) {
	flood := strings.Repeat("\x00\xff1: HTTP/1.1 999 OK\r\n", 5000)
	for name, handle := range map[string]func(net.Conn){
		"ends at once": func(net.Conn) {},
		"silent":       func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"reads nothing": func(c net.Conn) {
			_ = c.SetReadDeadline(time.Now().Add(3 * Short))
			time.Sleep(2 * Short)
		},
		"one byte": func(c net.Conn) { _, _ = c.Write([]byte{'1'}) },
		"a NUL":    func(c net.Conn) { _, _ = c.Write([]byte{0}) },
		"flood": func(c net.Conn) {
			go func() { _, _ = io.Copy(io.Discard, c) }()
			for {
				if _, err := io.WriteString(c, flood); err != nil {
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := m.New(t, "tcp", Serve(t, "tcp", handle), Short)
			defer e.Close()
			begun := time.Now()
			v := Ask(t, e, message("Subject: good", 4<<20))
			if v.Outcome != engine.Failed || v.Reason == engine.NoReason || v.Reason == engine.Unreadable {
				t.Errorf("%+v", v)
			}
			if took := time.Since(begun); took > Patience {
				t.Errorf("took %v", took)
			}
			if len(v.Detail) > engine.MaxText {
				t.Errorf("detail of %d bytes", len(v.Detail))
			}
		})
	}
	t.Run("not there", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
		e := m.New(t, "tcp", l.Addr().String(), Patience)
		defer e.Close()
		if v := Ask(t, e, message("Subject: good", 100)); v.Outcome != engine.Failed || v.Reason != engine.Unreachable {
			t.Errorf("%+v", v)
		}
		if _, err := e.State(t.Context()); err == nil {
			t.Error("it tells its state")
		}
	})
	t.Run("hangs past the deadline", func(t *testing.T) {
		e := m.New(t, "tcp", Serve(t, "tcp", func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }), Patience)
		defer e.Close()
		ctx, cancel := context.WithTimeout(t.Context(), Short/10)
		defer cancel()
		begun := time.Now()
		v := e.Scan(ctx, strings.NewReader(message("Subject: good", 100)), Facts(0))
		if v.Outcome != engine.Failed || v.Reason != engine.Late || time.Since(begun) > Patience {
			t.Errorf("after %v: %+v", time.Since(begun), v)
		}
	})
}
