package link

import (
	"bufio"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start is a network with one proxy in front of an echo of lines, and a
// connection through it by this process, the party "me"; nil if it is refused.
func start(t *testing.T) (*Network, func() (net.Conn, *bufio.Reader)) {
	t.Helper()
	if _, err := os.Stat("/proc/net/tcp"); err != nil {
		t.Skip("needs Linux: finds out who dials by /proc")
	}
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	n := New(func() []Party { return []Party{{"me", os.Getpid()}} })
	addr, err := n.Front("echo", echo.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.Close()
		_ = echo.Close()
	})
	return n, func() (net.Conn, *bufio.Reader) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return nil, nil
		}
		t.Cleanup(func() { _ = c.Close() })
		return c, bufio.NewReader(c)
	}
}

// says sends a line and reports whether it comes back within a second.
func says(c net.Conn, r *bufio.Reader) bool {
	if c == nil {
		return false
	}
	_, _ = io.WriteString(c, "hello\n")
	return hears(c, r)
}

func hears(c net.Conn, r *bufio.Reader) bool {
	_ = c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	line, err := r.ReadString('\n')
	return err == nil && line == "hello\n"
}

func TestSilence(t *testing.T) {
	n, dial := start(t)
	c, r := dial()
	if !says(c, r) {
		t.Fatal("nothing comes back")
	}
	n.Set("other", "echo", Trouble{Silent: true})
	if !says(c, r) {
		t.Error("another's trouble is ours")
	}
	n.Set("me", "echo", Trouble{Silent: true})
	if says(c, r) {
		t.Error("not silent")
	}
	n.Set("me", "echo", Trouble{})
	if !hears(c, r) {
		t.Error("what was held isn't sent when the trouble is over")
	}
}

func TestReset(t *testing.T) {
	n, dial := start(t)
	c, r := dial()
	if !says(c, r) {
		t.Fatal("nothing comes back")
	}
	n.Set("me", "echo", Trouble{Reset: true})
	if says(c, r) {
		t.Error("not reset")
	}
	if again, r := dial(); says(again, r) {
		t.Error("a new connection is let through")
	}
	n.Heal()
	if again, r := dial(); !says(again, r) {
		t.Error("not healed")
	}
}

func TestDelay(t *testing.T) {
	n, dial := start(t)
	c, r := dial()
	n.Set("me", "echo", Trouble{Delay: 100 * time.Millisecond})
	began := time.Now()
	if !says(c, r) {
		t.Fatal("nothing comes back")
	}
	if took := time.Since(began); took < 200*time.Millisecond {
		t.Errorf("there and back in %v", took)
	}
}

func TestEndsReachTheOtherSide(t *testing.T) {
	_, dial := start(t)
	c, r := dial()
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("got %v, want EOF", err)
	}
}
