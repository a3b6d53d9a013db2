package ingest

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"qstream/bus"
	"qstream/bus/embedded"
	"qstream/ingest/intake"
	"qstream/ingest/smtpd"
	"qstream/schemas"
	"qstream/test/kafka"
)

// serveFixed serves intake with a fixed directory, so that suites which share
// a cluster don't meet in its directory. It returns the edge for dial.
func serveFixed(t *testing.T, b *bus.Bus) *Ingest {
	t.Helper()
	in := newIntake(t, b)
	s, err := smtpd.New(smtpd.Config{Hostname: "edge.example"}, func(ctx context.Context, p smtpd.Peer) (smtp.Session, error) {
		return in.NewSession(ctx, intake.Client{Addr: p.Addr, HELO: p.HELO, ESMTP: p.ESMTP})
	}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		<-done
		in.Wait()
	})
	return &Ingest{services: []*service{{name: ServiceSMTP, listener: l}}}
}

func dialBus(t *testing.T, cfg bus.Config) *bus.Bus {
	t.Helper()
	b, err := bus.Dial(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	if _, err := b.CreateTopics(t.Context(), schemas.FixedTopics(), bus.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return b
}

// A real broker that is stopped with a message in its hands: 451 by the
// edge's own timer, and mail again once it goes on.
func TestFrozenKafka(t *testing.T) {
	if os.Getenv("QSTREAM_TEST_KAFKA") == "" {
		t.Skip("skipped: starts Apache Kafka; set QSTREAM_TEST_KAFKA to run it")
	}
	cluster, err := kafka.Start(t.Context(), kafka.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cluster.Stop() })
	in := serveFixed(t, dialBus(t, bus.Config{Seeds: cluster.Seeds()}))
	c := dial(t, in)
	c.say(begin+"hello\r\n.\r\n", append(begun, "250 2.0.0")...)
	if err := cluster.Brokers[0].Freeze(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, content := range []string{"hello\r\n", huge} {
		c := dial(t, in)
		c.say(begin, begun...)
		wg.Go(func() {
			started := time.Now()
			_, _ = io.WriteString(c, content+".\r\n")
			reply, err := c.in.ReadString('\n')
			if took := time.Since(started); took > 16*time.Second || !strings.HasPrefix(reply, "451 4.3.0") {
				t.Errorf("%q and %v after %v", reply, err, took)
			}
		})
	}
	wg.Wait()
	if err := cluster.Brokers[0].Thaw(); err != nil {
		t.Fatal(err)
	}
	for range 10 { // the client library finds back by itself
		if _, err := io.WriteString(c, begin+"hello\r\n.\r\n"); err != nil {
			t.Fatal(err)
		}
		for _, code := range begun {
			c.expect(code)
		}
		if reply, _ := c.in.ReadString('\n'); strings.HasPrefix(reply, "250") {
			return
		}
	}
	t.Error("no mail taken after the thaw")
}

// Sessions that send 50 MiB each at the same time stay below 500 MB.
func TestMemoryIsBounded(t *testing.T) {
	if os.Getenv("QSTREAM_TEST_LONG") == "" {
		t.Skip("skipped: stores gigabytes; set QSTREAM_TEST_LONG to run it")
	}
	t.Run("embedded", func(t *testing.T) {
		k, err := embedded.Start(embedded.Config{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = k.Close() })
		flood(t, dialBus(t, bus.Config{Seeds: k.Seeds(), Barrier: k.Barrier, Admit: k.Admit}), 20)
	})
	t.Run("kafka", func(t *testing.T) {
		if os.Getenv("QSTREAM_TEST_KAFKA") == "" {
			t.Skip("skipped: needs Apache Kafka; set QSTREAM_TEST_KAFKA to run it")
		}
		cluster, err := kafka.Start(t.Context(), kafka.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cluster.Stop() })
		flood(t, dialBus(t, bus.Config{Seeds: cluster.Seeds()}), 100)
	})
}

func flood(t *testing.T, b *bus.Bus, sessions int) {
	t.Helper()
	in := serveFixed(t, b)
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		t.Skipf("skipped: can't measure memory here: %v", err)
	}
	block := attachment(1 << 20)
	started := time.Now()
	var wg sync.WaitGroup
	for range sessions {
		c := dial(t, in)
		_ = c.SetDeadline(time.Now().Add(10 * time.Minute))
		c.say(begin, begun...)
		wg.Go(func() {
			for range (50 << 20) / len(block) {
				if _, err := c.Write(block); err != nil {
					t.Error(err)
					return
				}
			}
			_, _ = io.WriteString(c, ".\r\n")
			if reply, err := c.in.ReadString('\n'); !strings.HasPrefix(reply, "250 2.0.0") {
				t.Errorf("%q and %v", reply, err)
			}
		})
	}
	wg.Wait()
	peak := peakMemory(t)
	t.Logf("%d sessions of 50 MiB: peak %d MB, %v", sessions, peak>>20, time.Since(started).Round(time.Second))
	if peak > 500_000_000 {
		t.Errorf("peak %d MB", peak>>20)
	}
}

// attachment is base64 of random octets, about size long.
func attachment(size int) []byte {
	random := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	for raw := make([]byte, 57); b.Len() < size; {
		for i := range raw {
			raw[i] = byte(random.Uint32())
		}
		b.WriteString(base64.StdEncoding.EncodeToString(raw) + "\r\n")
	}
	return b.Bytes()
}

// peakMemory is the most memory that this process has had resident.
func peakMemory(t *testing.T) int64 {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.SplitSeq(string(status), "\n") {
		if kb, ok := strings.CutPrefix(l, "VmHWM:"); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(kb), " kB"), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatal(fmt.Errorf("no VmHWM in /proc/self/status"))
	return 0
}
