package peers

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Front stands before a clamd: it lets verdicts wait, and tells of official
// signatures where clamd has only own ones.
type Front struct {
	to string
	l  net.Listener

	mu      sync.Mutex
	slow    time.Duration
	version string
	conns   map[net.Conn]bool
	done    sync.WaitGroup
}

// StartFront starts one before the clamd at an address; it ends with the test.
func StartFront(t testing.TB, to string) *Front {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &Front{to: to, l: l, conns: map[net.Conn]bool{}}
	f.done.Go(f.accept)
	t.Cleanup(func() {
		_ = l.Close()
		f.mu.Lock()
		for c := range f.conns {
			_ = c.Close()
		}
		f.mu.Unlock()
		f.done.Wait()
	})
	return f
}

// Addr is where it listens.
func (f *Front) Addr() string { return f.l.Addr().String() }

// Slow is how long each verdict waits from now on.
func (f *Front) Slow(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.slow = d
}

// Signed is what it tells of official signatures from now on.
func (f *Front) Signed(number int, built time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.version = fmt.Sprintf("/%d/%s", number, built.UTC().Format(time.ANSIC))
}

func (f *Front) accept() {
	for {
		near, err := f.l.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", f.to)
		if err != nil {
			_ = near.Close()
			continue
		}
		f.mu.Lock()
		f.conns[near], f.conns[far] = true, true
		f.mu.Unlock()
		f.done.Go(func() { _, _ = io.Copy(far, near); f.end(near, far) })
		f.done.Go(func() { f.replies(near, far); f.end(near, far) })
	}
}

func (f *Front) end(conns ...net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
		delete(f.conns, c)
	}
}

// replies passes on what clamd says, reply by reply.
func (f *Front) replies(near, far net.Conn) {
	for in := bufio.NewReader(far); ; {
		reply, err := in.ReadBytes(0)
		f.mu.Lock()
		slow, version := f.slow, f.version
		f.mu.Unlock()
		switch {
		case bytes.Contains(reply, []byte(": ClamAV ")) && !bytes.Contains(reply, []byte("/")):
			reply = append(bytes.TrimRight(reply, "\x00"), version+"\x00"...)
		case bytes.Contains(reply, []byte("stream: ")):
			time.Sleep(slow)
		}
		if _, failed := near.Write(reply); failed != nil || err != nil {
			return
		}
	}
}
