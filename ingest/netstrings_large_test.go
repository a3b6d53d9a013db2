package ingest

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"qstream/bus/bustest"
)

// 190 MB by QMQP are stored while they come in. The content packs well, so
// that what the broker in this process keeps of it says little.
func TestQMQPVeryLarge(t *testing.T) {
	if os.Getenv("QSTREAM_TEST_LONG") == "" {
		t.Skip("stores 190 MB: set QSTREAM_TEST_LONG=1")
	}
	b := bustest.New(t)
	apply(t, b, relaySite)
	in, _ := start(t, b, anyPort(Config{QMQPMaxSize: 200_000_000}))
	line := strings.Repeat("x", 75) + "\n"
	const lines = 2_500_000 // 190 MB, 192.5 with CRLF
	const tail = ",0:,14:a@acme.example,"
	c := connect(t, in, "qmqp")
	base := heap()
	var most atomic.Uint64
	stop := sample(&most)
	started := time.Now()
	fmt.Fprintf(c, "%d:%d:", len("190000000:")+lines*len(line)+len(tail), lines*len(line))
	block := []byte(strings.Repeat(line, 1000))
	for range lines / 1000 {
		if _, err := c.Write(block); err != nil {
			t.Fatal(err)
		}
	}
	fmt.Fprint(c, tail+",")
	got, err := io.ReadAll(c)
	took := time.Since(started)
	stop()
	if answers(t, string(got)) != "K" || err != nil {
		t.Fatalf("%q %v", got, err)
	}
	m := received(t, b, 1)[0]
	if m.Content.Size != 2_500_000*77 {
		t.Errorf("%d octets stored", m.Content.Size)
	}
	above := int64(most.Load()) - int64(base)
	t.Logf("190 MB in %v, at most %.1f MiB of heap above the start", took.Round(10*time.Millisecond), float64(above)/(1<<20))
	if above > 32<<20 {
		t.Errorf("%d octets of heap above the start", above)
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

// sample notes the largest heap until stop.
func sample(most *atomic.Uint64) (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most.Store(max(most.Load(), m.HeapInuse))
			select {
			case <-end:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return func() { close(end); <-ended }
}
