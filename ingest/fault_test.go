package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/directory"
	"qstream/schemas"
	"qstream/test/lanes"
)

func TestMain(m *testing.M) {
	lanes.Open(8)
	goleak.VerifyTestMain(m)
}

const begin = "EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@acme.example>\r\nDATA\r\n"

var begun = []string{"250", "250", "250", "354"}

// huge is content that is stored in chunks.
var huge = strings.Repeat(strings.Repeat("x", 76)+"\r\n", 20_000)

// A broker that takes mail and doesn't answer is a matter of the edge's own
// timer, wherever the message stands.
func TestFrozenBrokerIsTemporary(t *testing.T) {
	t.Parallel()
	broker := bustest.Start(t)
	b := broker.Dial(t, bus.Config{})
	apply(t, b, site)
	in, stop := start(t, b, Config{PublishTimeout: 3 * time.Second})
	// The producer has its id and the topic's leaders before the broker freezes.
	dial(t, in).say(begin+"hello\r\n.\r\n", append(begun, "250 2.0.0")...)
	thaw := broker.Freeze()
	defer thaw()
	for name, content := range map[string]string{"small": "hello\r\n", "chunk": huge[:78*1000], "large": huge} {
		started := time.Now()
		dial(t, in).say(begin+content+".\r\n", append(begun, "451 4.3.0")...)
		if took := time.Since(started); took > 20*time.Second {
			t.Errorf("%s: answered after %v", name, took)
		}
	}
	thaw()
	dial(t, in).say(begin+"hello again\r\n.\r\n", append(begun, "250 2.0.0")...)
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// A barrier that hangs is storage that hangs after the broker has the record.
func TestHangingDiskIsTemporary(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	var hanging atomic.Bool
	b := bustest.Start(t).Dial(t, bus.Config{Barrier: func(context.Context) error {
		if hanging.Load() {
			<-hang
		}
		return nil
	}})
	apply(t, b, site)
	in, stop := start(t, b, Config{PublishTimeout: 200 * time.Millisecond})
	hanging.Store(true)
	for _, content := range []string{"hello\r\n", huge[:78*1000]} {
		started := time.Now()
		dial(t, in).say(begin+content+".\r\n", append(begun, "451 4.3.0")...)
		if took := time.Since(started); took > 20*time.Second {
			t.Errorf("answered after %v", took)
		}
	}
	close(hang)
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestFullStorageIsTemporary(t *testing.T) {
	t.Parallel()
	var full atomic.Bool
	full.Store(true)
	b := bustest.Start(t).Dial(t, bus.Config{Admit: func() error {
		if full.Load() {
			return fmt.Errorf("%w: test", bus.ErrFull)
		}
		return nil
	}})
	apply(t, b, site)
	in, _ := start(t, b, Config{})
	for _, content := range []string{"hello\r\n", huge[:78*1000], huge} {
		dial(t, in).say(begin+content+".\r\n", append(begun, "452 4.3.1")...)
	}
	full.Store(false)
	dial(t, in).say(begin+"hello\r\n.\r\n", append(begun, "250 2.0.0")...)
}

func TestBrokenBrokerIsTemporary(t *testing.T) {
	t.Parallel()
	b := bustest.Start(t).Dial(t, bus.Config{Barrier: func(context.Context) error { return errors.New("disk broken") }})
	c := dial(t, serveFixed(t, b))
	c.say("EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster@acme.example>\r\nDATA\r\n", begun...)
	reply := c.say("hello\r\n.\r\n", "451 4.3.0")
	if strings.Contains(reply, "disk") {
		t.Errorf("told a stranger of our trouble: %q", reply)
	}
}

// Mail that comes before the directory was read waits with its sender.
func TestNoDirectoryIsTemporary(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	in, err := New(Config{SMTP: "127.0.0.1:0", Hostname: "edge.example"}, Deps{Bus: b, Directory: directory.Follow(b), Resolver: noNames(t)})
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- in.Run(ctx) }()
	dial(t, in).say("EHLO x\r\nMAIL FROM:<>\r\n", "250", "451 4.3.0")
	if in.Ready() == nil {
		t.Error("ready without a directory")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A kill between the publication and the reply leaves a stored message that
// its client will send again: the failpoint stands there.
func TestFailpointBeforeTheReply(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, site)
	var stored int
	in, _ := startWith(t, b, Config{}, func(d *Deps) {
		d.Failpoint = func(name string) {
			if name == "ingest.reply.before" {
				stored = len(bustest.Records(t, b, schemas.Received))
			}
		}
	})
	dial(t, in).say(begin+"hello\r\n.\r\n", append(begun, "250 2.0.0")...)
	if stored != 1 {
		t.Errorf("%d stored before the reply", stored)
	}
}

// A client that goes away amid a large message leaves nothing behind.
func TestCutConnection(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, site)
	in, stop := start(t, b, Config{MaxLarge: 1})
	for range 3 {
		c := dial(t, in)
		c.say(begin+huge, begun...)
		c.Close()
	}
	dial(t, in).say(begin+huge+".\r\n", append(begun, "250 2.0.0")...) // its place is free
	if err := stop(); err != nil {
		t.Error(err)
	}
	if n := len(bustest.Records(t, b, schemas.Received)); n != 1 {
		t.Errorf("%d messages", n)
	}
}

// More large messages than there is memory for take turns.
func TestLargeMessagesTakeTurns(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, site)
	in, _ := start(t, b, Config{MaxLarge: 2})
	done := make(chan string, 8)
	for range 8 {
		c := dial(t, in)
		c.say(begin, begun...)
		go func() {
			_, _ = io.WriteString(c, huge+".\r\n")
			reply, _ := c.in.ReadString('\n')
			done <- reply
		}()
	}
	for range 8 {
		if reply := <-done; !strings.HasPrefix(reply, "250 2.0.0") {
			t.Error(reply)
		}
	}
	if len(received(t, b, 8)) != 8 {
		t.Error("not all stored")
	}
}
