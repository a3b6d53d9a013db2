package sinks_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"go.uber.org/goleak"

	"qstream/bus"
	"qstream/tapper/sink"
	"qstream/tapper/sink/sinks"
	"qstream/tapper/sink/sinktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// place is where a sink puts things in a test.
type place struct {
	spec string
	// stored are the objects that are there, each with what was put around it,
	// those of a lane in the order in which they came; a repetition that made
	// another object shows here.
	stored func() []string
	// lf: lines end in LF there. quoted: and > stands before From. only:
	// nothing but the envelope is kept.
	lf, quoted, only bool
	// again: a repetition makes a second object, which has the same ID.
	again bool
	// path is the place in the file system; empty: none.
	path string
	// gate is the way to the server; nil: there is none.
	gate *gate
	// freeze makes the server answer nothing until thaw; nil: see gate.
	freeze func() (thaw func())
	// large makes the place keep no content; nil: it may.
	large func()
	// apart: the place is in another process, and needs none of our memory.
	apart bool
}

var busConfig bus.Config

// readAll reads files in the order of their names.
func readAll(t *testing.T, glob string) []string {
	names, _ := filepath.Glob(glob)
	slices.Sort(names)
	var all []string
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Error(err)
		}
		all = append(all, string(b))
	}
	return all
}

func open(t *testing.T, spec string) sink.Sink {
	t.Helper()
	parsed, err := sink.Parse(spec)
	if err != nil {
		t.Fatal(err)
	}
	s, err := sinks.New(parsed, sink.Deps{Me: "mx.example"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func put(t *testing.T, s sink.Sink, copies ...sink.Copy) {
	t.Helper()
	for _, c := range copies {
		if err := s.Put(t.Context(), c); err != nil {
			t.Fatalf("put %s: %v", c.ID, err)
		}
	}
}

// trials are what every sink must hold to.
var trials = []struct {
	name string
	try  func(t *testing.T, p place)
}{
	{"keeps what it is given, in order", keeps},
	{"knows a repetition", repeats},
	{"leaves nothing of content that fails", contentFails},
	{"is not led astray", hostile},
	{"tells all kinds of copies", tellsKinds},
	{"is down", down},
	{"goes down midway", downMidway},
	{"goes down behind the last octet", downAtEnd},
	{"is cut off when it stands still", slow},
	{"streams", streams},
}

// TestEverySink is what every sink must hold to; a new one needs only a row in
// places.
func TestEverySink(t *testing.T) {
	for _, name := range sinks.Types {
		t.Run(name, func(t *testing.T) {
			made := places[name]
			if made == nil {
				t.Fatal("no row in places")
			}
			for _, c := range trials {
				t.Run(c.name, func(t *testing.T) { c.try(t, made(t)) })
			}
		})
	}
}

func keeps(t *testing.T, p place) {
	s := open(t, p.spec)
	var copies []sink.Copy
	for n := range 5 {
		copies = append(copies, sinktest.Full(n, sinktest.Content(n)))
	}
	put(t, s, copies...)
	got := p.stored()
	if len(got) != len(copies) {
		t.Fatalf("%d objects of %d copies:\n%s", len(got), len(copies), strings.Join(got, "\n"))
	}
	for n, c := range copies {
		if !strings.Contains(got[n], c.ID) {
			t.Errorf("object %d does not tell %s:\n%s", n, c.ID, got[n])
		}
		want := string(sinktest.Message(c))
		if p.lf {
			want = strings.ReplaceAll(want, "\r\n", "\n")
		}
		if !p.only && !strings.Contains(got[n], want) {
			t.Errorf("object %d does not hold the message:\n%s\nwant\n%s", n, got[n], want)
		}
		if !strings.Contains(got[n], "dave@acme.example") || strings.Contains(got[n], "else@other.example") {
			t.Errorf("object %d tells not just the copy's recipients:\n%s", n, got[n])
		}
	}
}

func repeats(t *testing.T, p place) {
	s := open(t, p.spec)
	first, second := sinktest.Full(1, sinktest.Content(1)), sinktest.Full(2, sinktest.Content(2))
	put(t, s, first, second, second)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, p.spec) // a process that was started again
	put(t, s, second, sinktest.Full(3, sinktest.Content(3)))
	got := p.stored()
	if p.again {
		if len(got) < 3 {
			t.Errorf("%d objects", len(got))
		}
		for _, o := range got {
			if !strings.Contains(o, "acme.01KJM") {
				t.Errorf("an object without its ID:\n%s", o)
			}
		}
		return
	}
	if len(got) != 3 {
		t.Errorf("%d objects of 3 copies:\n%s", len(got), strings.Join(got, "\n----\n"))
	}
}

var errBroken = errors.New("content is gone")

func contentFails(t *testing.T, p place) {
	if p.only {
		t.Skip("it reads no content")
	}
	s := open(t, p.spec)
	for name, open := range map[string]func(context.Context) (io.ReadCloser, error){
		"at once": func(context.Context) (io.ReadCloser, error) { return nil, errBroken },
		"midway": func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(strings.NewReader(sinktest.Content(1)[:80]), iotest.ErrReader(errBroken))), nil
		},
		"short": func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(sinktest.Content(1)[:80])), nil
		},
	} {
		c := sinktest.Full(1, sinktest.Content(1))
		c.Open = open
		if err := s.Put(t.Context(), c); err == nil {
			t.Errorf("%s: taken", name)
		}
		if got := p.stored(); len(got) != 0 {
			t.Errorf("%s: left %q", name, got)
		}
	}
	put(t, s, sinktest.Full(1, sinktest.Content(1)))
	if got := p.stored(); len(got) != 1 {
		t.Errorf("%d objects after it", len(got))
	}
}

// hostile has texts that would break out of a line, a name or a field.
func hostile(t *testing.T, p place) {
	const evil = "x\r\nX-Injected: yes\r\n\r\nbody\x00\x1b[31m\"><&../../etc/passwd"
	s := open(t, p.spec)
	for i, make := range []func(int) sink.Copy{
		func(n int) sink.Copy {
			return sinktest.Full(n, "Subject: =?utf-8?q?a=0D=0AX-Injected:_yes?=\r\nTo: <"+evil[:1]+"\r\n\r\n")
		},
		sinktest.Envelope, sinktest.Outcome,
	} {
		c := make(i + 1)
		c.Received.Envelope.ReversePath, c.Received.HeaderMessageId = evil, evil
		c.Received.Session.Helo, c.Received.Session.ClientName = evil, evil
		c.Recipients = slices.Clone(c.Recipients)
		c.Recipients[0] = sinktest.Recipient(0, evil, "rfc822;"+evil)
		if c.Event != nil {
			c.Event.Text, c.Event.Host = evil, evil
		}
		put(t, s, c)
	}
	for _, o := range p.stored() {
		for _, line := range bytes.Split([]byte(o), []byte("\n")) {
			if bytes.HasPrefix(line, []byte("X-Injected:")) {
				t.Errorf("a field was let in:\n%s", o)
			}
		}
		if strings.ContainsAny(o, "\x00\x1b") {
			t.Errorf("control characters were let through:\n%q", o)
		}
	}
	for _, id := range []string{"", "../x", "a/b", "a b", "a\nb", ".hidden", strings.Repeat("x", 129)} {
		c := sinktest.Full(9, sinktest.Content(9))
		c.ID = id
		if err := s.Put(t.Context(), c); err == nil {
			t.Errorf("took the ID %q", id)
		}
	}
}
