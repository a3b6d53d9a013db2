package sinks_test

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"qstream/tapper/sink"
	"qstream/tapper/sink/sinktest"
)

func tellsKinds(t *testing.T, p place) {
	s := open(t, p.spec)
	full, envelope, outcome, sealed := sinktest.Full(1, sinktest.Content(1)), sinktest.Envelope(2), sinktest.Outcome(3), sinktest.Sealed(4)
	put(t, s, full, envelope, outcome, sealed)
	all := p.stored()
	if len(all) != 4 {
		t.Fatalf("%d objects:\n%s", len(all), strings.Join(all, "\n----\n"))
	}
	find := func(id string) string {
		for _, o := range all {
			if strings.Contains(o, id) {
				return o
			}
		}
		t.Errorf("nothing tells %s", id)
		return ""
	}
	if o := find(envelope.ID); strings.Contains(o, "Line one.") || !strings.Contains(o, "ann@sender.example") {
		t.Errorf("envelope:\n%s", o)
	}
	if o := find(outcome.ID); !strings.Contains(o, "bob@acme.example") || strings.Contains(o, "else@other.example") {
		t.Errorf("outcome:\n%s", o)
	}
	if o := find(sealed.ID); strings.Contains(o, "@acme.example") || strings.Contains(o, "@sender.example") {
		t.Errorf("sealed:\n%s", o)
	}
}

// refuses wants a copy not taken, in time.
func refuses(t *testing.T, s sink.Sink, c sink.Copy, within time.Duration) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), within)
	defer stop()
	if err := s.Put(ctx, c); err == nil {
		t.Fatal("taken")
	}
}

// mended wants that the same sink takes a copy again, and what came of it all.
func mended(t *testing.T, p place, s sink.Sink, most int, copies ...sink.Copy) {
	t.Helper()
	put(t, s, copies...)
	got := p.stored()
	if n := len(got); n < len(copies) || n > most && !p.again || n > most+1 {
		t.Errorf("%d objects:\n%s", n, strings.Join(got, "\n----\n"))
	}
}

func down(t *testing.T, p place) {
	c := sinktest.Full(1, sinktest.Content(1))
	s := open(t, p.spec)
	switch {
	case p.path != "":
		// A file stands where the folder should be.
		blocker := filepath.Dir(p.path)
		if err := os.RemoveAll(blocker); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(blocker, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		refuses(t, s, c, time.Minute)
		if err := os.Remove(blocker); err != nil {
			t.Fatal(err)
		}
	case p.gate != nil:
		p.gate.set(func(g *gate) { g.shut = true })
		refuses(t, s, c, time.Minute)
		p.gate.set(func(*gate) {})
	default:
		thaw := p.freeze()
		refuses(t, s, c, 300*time.Millisecond)
		thaw()
	}
	mended(t, p, s, 1, c)
}

func downMidway(t *testing.T, p place) {
	if p.gate == nil {
		t.Skip("content that fails, and the frozen broker, are tried elsewhere")
	}
	s := open(t, p.spec)
	c := sinktest.Large(1, 200<<10, nil)
	p.gate.set(func(g *gate) { g.most = 100 << 10 })
	refuses(t, s, c, time.Minute)
	if got := p.stored(); len(got) != 0 {
		t.Errorf("%d objects of half a copy", len(got))
	}
	p.gate.set(func(*gate) {})
	mended(t, p, s, 1, c)
}

// downAtEnd: the copy is there and nobody says so. It is put again, and the
// place has it once, or twice with the same ID.
func downAtEnd(t *testing.T, p place) {
	if p.gate == nil {
		t.Skip("nothing answers, or no answer gets lost")
	}
	s := open(t, p.spec)
	c := sinktest.Full(1, sinktest.Content(1))
	p.gate.set(func(g *gate) { g.mute = func() bool { return len(p.stored()) > 0 } })
	refuses(t, s, c, time.Minute)
	if len(p.stored()) != 1 {
		t.Fatal("the copy was to be there")
	}
	p.gate.set(func(*gate) {})
	mended(t, p, s, 1, c)
	for _, o := range p.stored() {
		if !strings.Contains(o, c.ID) {
			t.Errorf("an object without the ID:\n%s", o)
		}
	}
}

func slow(t *testing.T, p place) {
	s := open(t, p.spec)
	c := sinktest.Large(1, 200<<10, nil)
	switch {
	case p.gate != nil:
		p.gate.set(func(g *gate) { g.most, g.stall = 100<<10, true })
		refuses(t, s, c, 300*time.Millisecond)
		p.gate.set(func(*gate) {})
	case p.freeze != nil:
		thaw := p.freeze()
		refuses(t, s, c, 300*time.Millisecond)
		thaw()
	default:
		ctx, stop := context.WithCancel(t.Context())
		stop()
		if err := s.Put(ctx, c); err == nil && !p.only {
			t.Fatal("taken after its time")
		}
	}
	mended(t, p, s, 1, c)
}

// streams puts 50 MiB, and looks at memory while that goes on.
func streams(t *testing.T, p place) {
	if p.only {
		t.Skip("it reads no content")
	}
	if p.large != nil {
		p.large()
	}
	const size, most = 50 << 20, 24 << 20
	s := open(t, p.spec)
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	var read atomic.Int64
	var peak atomic.Uint64
	c := sinktest.Large(1, size, &read)
	inner := c.Open
	c.Open = sinktest.Watch(inner, func() {
		var now runtime.MemStats
		runtime.ReadMemStats(&now)
		peak.Store(max(peak.Load(), now.HeapInuse))
	})
	put(t, s, c)
	if read.Load() < size-100 {
		t.Errorf("read %d octets", read.Load())
	}
	if p.path != "" || p.apart { // other servers keep the content in this process
		if grown := int64(peak.Load()) - int64(before.HeapInuse); grown > most {
			t.Errorf("memory grew by %d MiB", grown>>20)
		}
	}
}
