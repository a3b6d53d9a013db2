package ingest

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"qstream/bus/bustest"
)

// ends are the counts of qstream_ingest_SERVICE_ends_total by end.
func ends(t *testing.T, r *prometheus.Registry, service string) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]float64{}
	for _, f := range families {
		if f.GetName() == "qstream_ingest_"+service+"_ends_total" {
			for _, m := range f.Metric {
				counts[m.Label[0].GetValue()] = m.Counter.GetValue()
			}
		}
	}
	return counts
}

// Clients that are silent, slow or endless are ended, counted, and have sent
// nothing.
func TestNetstringsEnds(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, relaySite)
	edge := func(wait time.Duration) (*Ingest, *prometheus.Registry) {
		r := prometheus.NewRegistry()
		in, _ := startWith(t, b, anyPort(Config{CommandTimeout: wait, DataTimeout: wait, QMQPMaxSize: 1000}), func(d *Deps) { d.Metrics = r })
		return in, r
	}
	hasty, of := edge(200 * time.Millisecond)
	patient, ofPatient := edge(time.Minute) // nothing else is late there
	const to = "a@acme.example"
	for _, tt := range []struct{ service, text, end string }{
		{"qmqp", "", "timeout"},
		{"qmqp", "1", "timeout"},
		{"qmqp", qmqp("hello\n", "", to)[:12], "timeout"},
		{"qmqp", "99999999:", "too_long"},
		{"qmqp", "x", "malformed"},
		{"qmqp", qmqp("hello\n", "", to), "done"},
		{"qmtp", "", "timeout"},
		{"qmtp", qmtp("hello\r\n", "", to)[:12], "timeout"},
		{"qmtp", "999999999:", "too_long"},
		{"qmtp", "0:,", "malformed"},
	} {
		in, r := patient, ofPatient
		if tt.end == "timeout" {
			in, r = hasty, of
		}
		before := ends(t, r, tt.service)[tt.end]
		c := connect(t, in, tt.service)
		if _, err := io.WriteString(c, tt.text); err != nil {
			t.Fatal(err)
		}
		_, _ = io.ReadAll(c) // up to the end, or a reset
		for patience := 0; ends(t, r, tt.service)[tt.end] != before+1; patience++ {
			if patience == 300 {
				t.Fatalf("%s %q: not %s but %v", tt.service, tt.text, tt.end, ends(t, r, tt.service))
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	received(t, b, 1)
}

// One connection too many is closed without an octet.
func TestNetstringsConnections(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, relaySite)
	in, _ := start(t, b, anyPort(Config{MaxConnections: 1}))
	first := connect(t, in, "qmqp")
	if _, err := io.WriteString(first, "2"); err != nil {
		t.Fatal(err)
	}
	for {
		second := connect(t, in, "qmqp")
		_ = second.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		n, err := second.Read(make([]byte, 1))
		if e, ok := err.(net.Error); ok && e.Timeout() {
			continue // it came before the first
		}
		if n > 0 || err == nil {
			t.Errorf("%d octets, %v", n, err)
		}
		break
	}
}

func BenchmarkNetstrings(b *testing.B) {
	bus := bustest.New(b)
	apply(b, bus, relaySite)
	in, _ := start(b, bus, anyPort(Config{}))
	one := qmtp(strings.Repeat(strings.Repeat("x", 76)+"\r\n", 131), "s@x.example", "a@acme.example")
	c := connect(b, in, "qmtp")
	answer := make([]byte, 4096)
	b.SetBytes(int64(len(one)))
	for b.Loop() {
		if _, err := io.WriteString(c, one); err != nil {
			b.Fatal(err)
		}
		if _, err := c.Read(answer); err != nil || answer[3] != 'K' {
			b.Fatalf("%q %v", answer[:10], err)
		}
	}
}
