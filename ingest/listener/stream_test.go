package listener

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair is a connection over TCP, and the server's side of it.
func pair(t *testing.T) (client, server *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

var limits = Limits{Write: time.Minute, Data: time.Minute, MinRate: 100, RateGrace: time.Minute}

func TestGone(t *testing.T) {
	client, server := pair(t)
	s := NewStream(server, limits)
	if s.Gone() {
		t.Error("gone although open")
	}
	if _, err := io.WriteString(client, "all"); err != nil {
		t.Fatal(err)
	}
	if err := client.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(s); string(got) != "all" || err != nil {
		t.Fatalf("%q %v", got, err)
	}
	if !s.Gone() {
		t.Error("not gone although half closed")
	}
}

// What is queued goes out before the client is waited for.
func TestQueuedIsSentBeforeReading(t *testing.T) {
	client, server := pair(t)
	s := NewStream(server, limits)
	s.Out = append(s.Out, "one"...)
	s.Out = append(s.Out, "two"...)
	got := make(chan error, 1)
	go func() {
		_, err := s.Read(make([]byte, 10))
		got <- err
	}()
	b := make([]byte, 10)
	if n, err := client.Read(b); string(b[:n]) != "onetwo" || err != nil {
		t.Errorf("%q %v", b[:n], err)
	}
	client.Close()
	if err := <-got; err != io.EOF {
		t.Error(err)
	}
}

func TestPace(t *testing.T) {
	now := time.Now()
	k := pace{limits: &Limits{Data: 3 * time.Minute, MinRate: 100, RateGrace: time.Minute}}
	if d := k.deadline(now).Sub(now); d != time.Minute {
		t.Errorf("at the start %v", d)
	}
	k.waited(30*time.Second, 1000)
	if d := k.deadline(now).Sub(now); d != 40*time.Second {
		t.Errorf("10 s worth of octets after 30 s: %v", d)
	}
	k.waited(0, 1<<20)
	if d := k.deadline(now).Sub(now); d != 3*time.Minute {
		t.Errorf("after many octets: %v", d)
	}
	k.waited(10*time.Hour, 0)
	if d := k.deadline(now).Sub(now); d != 0 {
		t.Errorf("behind: %v", d)
	}
}

func TestSessionEnds(t *testing.T) {
	_, server := pair(t)
	l := limits
	l.Session = 10 * time.Millisecond
	s := NewStream(server, l)
	if err := s.Wait(time.Hour); err != nil {
		t.Fatal(err)
	}
	_, err := s.Read(make([]byte, 1))
	var timeout net.Error
	if err = s.Came(err); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("wait: %v", err)
	}
	defer s.Pace()()
	if _, err := s.Read(make([]byte, 1)); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("content: %v", err)
	}
}

func TestDrain(t *testing.T) {
	_, server := pair(t)
	s := NewStream(server, limits)
	if err := s.Wait(time.Hour); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(time.Millisecond, s.Drain)
	_, err := s.Read(make([]byte, 1))
	if err := s.Came(err); !errors.Is(err, ErrDraining) {
		t.Error(err)
	}
	if err := s.Wait(time.Hour); !errors.Is(err, ErrDraining) {
		t.Error(err)
	}
	s.Hold(true)
	if err := s.Wait(time.Hour); err != nil {
		t.Errorf("held: %v", err)
	}
}

// guest is a dialogue that ends by Drain.
type guest struct {
	ran, refused chan bool
	end          chan struct{}
}

func (g *guest) Run(context.Context) { g.ran <- true; <-g.end }
func (g *guest) Refuse()             { g.refused <- true }
func (g *guest) Drain()              { close(g.end) }

// waiting is a client who waits for what never comes.
type waiting struct {
	c     net.Conn
	began chan bool
}

func (w waiting) Run(ctx context.Context) {
	w.began <- true
	<-ctx.Done()
	_, _ = io.WriteString(w.c, "451 not now\r\n")
}
func (waiting) Refuse() {}
func (waiting) Drain()  {}

// Who is waited for at the end hears that nothing came of it.
func TestEndByForceIsTold(t *testing.T) {
	began := make(chan bool)
	s := New(Config{Service: "test", MaxConnections: 2, Grace: time.Millisecond}, func(c net.Conn) Dialogue { return waiting{c, began} }, nil, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	<-began
	cancel()
	if said, err := io.ReadAll(c); string(said) != "451 not now\r\n" || err != nil {
		t.Errorf("%q, %v", said, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestLimitOfConnections(t *testing.T) {
	ran, refused := make(chan bool, 3), make(chan bool, 3)
	s := New(Config{Service: "test", MaxConnections: 2, Grace: time.Minute}, func(net.Conn) Dialogue {
		return &guest{ran, refused, make(chan struct{})}
	}, nil, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	for range 3 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	for _, c := range []chan bool{ran, ran, refused} {
		<-c
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
