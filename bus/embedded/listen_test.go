package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/nettest"
	"pgregory.net/rapid"
)

// TestConnBehaves is what package net's own connections are tested by.
func TestConnBehaves(t *testing.T) {
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		a, b := newConns(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1})
		return a, b, func() { a.Close(); b.Close() }, nil
	})
}

// TestConnBehavesAsTCP does the same to both, step by step.
func TestConnBehavesAsTCP(t *testing.T) {
	defer goleak.VerifyNone(t)
	rapid.Check(t, func(t *rapid.T) {
		ours, theirs := memoryPair(t), tcpPair(t)
		defer ours.close()
		defer theirs.close()
		var written, read [2]int // by each end, and from each end
		var closed [2]bool
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			end := rapid.IntRange(0, 1).Draw(t, "end")
			peer := 1 - end
			switch rapid.SampledFrom([]string{"write", "read", "deadline", "close"}).Draw(t, "do") {
			case "write":
				if closed[peer] && !closed[end] {
					continue // TCP learns of that later
				}
				p := bytes.Repeat([]byte{byte(written[end])}, rapid.IntRange(0, 5000).Draw(t, "size"))
				agree(t, "write", ours.write(end, p), theirs.write(end, p))
				if !closed[end] {
					written[end] += len(p)
				}
			case "read":
				n := rapid.IntRange(0, 5000).Draw(t, "size")
				if n > 0 && !closed[end] && !closed[peer] && written[peer] < read[peer]+n {
					continue // both would wait
				}
				p, q := make([]byte, n), make([]byte, n)
				agree(t, "read", ours.read(end, p), theirs.read(end, q))
				if !bytes.Equal(p, q) {
					t.Fatalf("read %d octets that differ", n)
				}
				if !closed[end] {
					read[peer] = min(read[peer]+n, written[peer])
				}
			case "deadline":
				p, q := make([]byte, 1), make([]byte, 1)
				for _, pair := range []pair{ours, theirs} {
					pair[end].SetReadDeadline(time.Unix(1, 0))
				}
				agree(t, "read after its deadline", ours.read(end, p), theirs.read(end, q))
				for _, pair := range []pair{ours, theirs} {
					pair[end].SetReadDeadline(time.Time{})
				}
			case "close":
				if closed[end] || written[peer] > read[peer] {
					continue // TCP resets a connection whose data nobody has read
				}
				closed[end] = true
				ours[end].Close()
				theirs[end].Close()
			}
		}
	})
}

type pair [2]net.Conn

func (p pair) close() {
	p[0].Close()
	p[1].Close()
}

func (p pair) write(end int, b []byte) string {
	n, err := p[end].Write(b)
	return told(n, err)
}

func (p pair) read(end int, b []byte) string {
	n, err := io.ReadFull(p[end], b)
	return told(n, err)
}

// told is how a call ended.
func told(n int, err error) string {
	for _, e := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, os.ErrDeadlineExceeded} {
		if errors.Is(err, e) {
			return fmt.Sprint(n, " ", e)
		}
	}
	return fmt.Sprint(n, " ", err)
}

func agree(t *rapid.T, what, ours, theirs string) {
	if ours != theirs {
		t.Fatalf("%s: %s, TCP: %s", what, ours, theirs)
	}
}

func memoryPair(*rapid.T) pair {
	a, b := newConns(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1})
	return pair{a, b}
}

func tcpPair(t *rapid.T) pair {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return pair{a, b}
}

// TestConnKeepsOctets sends much more than a buffer, cut in any way.
func TestConnKeepsOctets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pair := memoryPair(t)
		defer pair.close()
		want := make([]byte, rapid.IntRange(0, 5*streamBuffer).Draw(t, "size"))
		for i := range want {
			want[i] = byte(i % 251)
		}
		step := rapid.IntRange(1, 2*streamBuffer).Draw(t, "written at once")
		take := rapid.IntRange(1, 2*streamBuffer).Draw(t, "read at once")
		var work sync.WaitGroup
		work.Go(func() {
			defer pair[0].Close()
			for p := range bytesOf(want, step) {
				if _, err := pair[0].Write(p); err != nil {
					return
				}
			}
		})
		var got bytes.Buffer
		_, err := io.CopyBuffer(onlyWriter{&got}, onlyReader{pair[1]}, make([]byte, take))
		work.Wait()
		if err != nil || !bytes.Equal(got.Bytes(), want) {
			t.Fatalf("%d of %d octets came, or others: %v", got.Len(), len(want), err)
		}
	})
}

type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)

func bytesOf(p []byte, step int) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(p) > 0 {
			n := min(step, len(p))
			if !yield(p[:n]) {
				return
			}
			p = p[n:]
		}
	}
}

func TestListenerTakesBothKinds(t *testing.T) {
	defer goleak.VerifyNone(t)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newListener(tcp)
	dials := map[string]func() (net.Conn, error){
		"tcp":    func() (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) },
		"memory": func() (net.Conn, error) { return l.dial(t.Context()) },
	}
	for name, dial := range dials {
		t.Run(name, func(t *testing.T) {
			dialed := make(chan net.Conn, 1)
			go func() {
				c, err := dial()
				if err != nil {
					t.Error(err)
				}
				dialed <- c
			}()
			accepted, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer accepted.Close()
			c := <-dialed
			defer c.Close()
			if _, err := c.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, 5)
			if _, err := io.ReadFull(accepted, got); err != nil || string(got) != "hello" {
				t.Fatalf("%q, %v", got, err)
			}
		})
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}
	var op *net.OpError
	if _, err := l.dial(t.Context()); !errors.As(err, &op) || op.Op != "dial" {
		t.Errorf("dial after close: %v", err)
	}
}

func TestDialEndsWithItsContext(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newListener(tcp)
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.dial(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("dial that nobody accepts: %v", err)
	}
}
