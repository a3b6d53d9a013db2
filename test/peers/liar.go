package peers

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// Ways in which a Liar answers.
const (
	Honest  = "honest"  // as the clamd behind it
	Hung    = "hung"    // takes all of a message, and says nothing
	Mute    = "mute"    // takes the connection, and reads nothing
	Dying   = "dying"   // breaks off amid its answer
	Garbled = "garbled" // answers what no clamd says
	Dripped = "dripped" // answers an octet in two seconds
	Endless = "endless" // answers without end
	Shifted = "shifted" // gives the answer to another command
	Doubled = "doubled" // answers twice
)

// Lies are all ways but Honest.
var Lies = []string{Hung, Mute, Dying, Garbled, Dripped, Endless, Shifted, Doubled}

// Liar stands before a clamd and answers in its stead.
type Liar struct {
	to string
	l  net.Listener

	mu    sync.Mutex
	way   string
	conns map[net.Conn]bool
	done  sync.WaitGroup
}

// StartLiar starts one before the clamd at an address, honest at first; it ends
// with the test.
func StartLiar(t testing.TB, to string) *Liar {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &Liar{to: to, l: l, way: Honest, conns: map[net.Conn]bool{}}
	f.done.Go(f.accept)
	t.Cleanup(func() {
		_ = l.Close()
		f.cut()
		f.done.Wait()
	})
	return f
}

// Addr is where it listens.
func (f *Liar) Addr() string { return f.l.Addr().String() }

// Tell makes it answer that way from now on; what is open breaks.
func (f *Liar) Tell(way string) {
	f.mu.Lock()
	f.way = way
	f.mu.Unlock()
	f.cut()
}

func (f *Liar) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		_ = c.Close()
	}
}

func (f *Liar) accept() {
	for {
		c, err := f.l.Accept()
		if err != nil {
			return
		}
		f.mu.Lock()
		way := f.way
		f.conns[c] = true
		f.mu.Unlock()
		f.done.Go(func() {
			if way == Honest {
				f.pass(c)
			} else {
				answer(c, way)
			}
			_ = c.Close()
			f.mu.Lock()
			delete(f.conns, c)
			f.mu.Unlock()
		})
	}
}

func (f *Liar) pass(near net.Conn) {
	far, err := net.Dial("tcp", f.to)
	if err != nil {
		return
	}
	back := make(chan struct{})
	go func() {
		_, _ = io.Copy(near, far)
		_ = near.Close()
		close(back)
	}()
	_, _ = io.Copy(far, near)
	_ = far.Close()
	<-back
}

// answer answers a session's commands in a way that is not clamd's.
func answer(c net.Conn, way string) {
	in := bufio.NewReader(c)
	for n := 0; ; {
		if way == Mute {
			_, _ = c.Read(nil)
			time.Sleep(100 * time.Millisecond)
			if _, err := c.Write(nil); err != nil {
				return
			}
			continue
		}
		command, err := in.ReadString(0)
		if err != nil {
			return
		}
		switch n++; command {
		case "zIDSESSION\x00":
			n--
		case "zVERSION\x00":
			_, err = fmt.Fprintf(c, "%d: ClamAV 1.4.6\x00", n)
		case "zINSTREAM\x00":
			err = lie(c, in, n, way)
		default:
			return
		}
		if err != nil {
			return
		}
	}
}

// lie is the answer to a message.
func lie(c net.Conn, in *bufio.Reader, n int, way string) (err error) {
	for size := uint32(1); size > 0; {
		if err = binary.Read(in, binary.BigEndian, &size); err != nil {
			return err
		}
		if _, err = io.CopyN(io.Discard, in, int64(size)); err != nil {
			return err
		}
	}
	switch way {
	case Dying:
		_, _ = fmt.Fprintf(c, "%d: stream: O", n)
		return io.ErrUnexpectedEOF
	case Garbled:
		_, err = fmt.Fprintf(c, "%d: \xff\r\n250 stream OK\x00", n)
	case Dripped:
		for _, b := range []byte(fmt.Sprintf("%d: stream: OK\x00", n)) {
			time.Sleep(2 * time.Second)
			if _, err = c.Write([]byte{b}); err != nil {
				break
			}
		}
	case Endless:
		for err == nil {
			_, err = io.WriteString(c, strings.Repeat("OK", 1000))
		}
	case Shifted:
		_, err = fmt.Fprintf(c, "%d: stream: OK\x00", n-1)
	case Doubled:
		_, err = fmt.Fprintf(c, "%d: stream: OK\x00%d: stream: OK\x00", n, n+1)
	}
	return err
}
