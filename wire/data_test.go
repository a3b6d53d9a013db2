package wire

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

func TestData(t *testing.T) {
	long := strings.Repeat("x", 48)
	for _, tt := range []struct {
		name, in string
		want     string // content
		rest     string // behind the end
		err      error  // with Reject
		norm     string // content with Normalise, if it differs
	}{
		{name: "plain", in: "a\r\nb\r\n.\r\nQUIT\r\n", want: "a\r\nb\r\n", rest: "QUIT\r\n"},
		{name: "empty", in: ".\r\n", want: ""},
		{name: "one empty line", in: "\r\n.\r\n", want: "\r\n"},
		{name: "stuffed", in: "..\r\n..a\r\n.b\r\n.\r\n", want: ".\r\n.a\r\nb\r\n"},
		{name: "dot inside", in: "a.\r\n .\r\n.\r\n", want: "a.\r\n .\r\n"},
		{name: "8 bit", in: "\xff\xfe\r\n.\r\n", want: "\xff\xfe\r\n"},
		{name: "longest line", in: long + "\r\n.\r\n", want: long + "\r\n"},
		{name: "line too long", in: long + "y\r\n.\r\n", err: ErrLineTooLong},
		{name: "LF.LF", in: "a\n.\nMAIL\r\n.\r\n", err: &StrayError{'\n'}, norm: "a\r\n.\r\nMAIL\r\n"},
		{name: "LF.CRLF", in: "a\n.\r\nMAIL\r\n.\r\n", err: &StrayError{'\n'}, norm: "a\r\n.\r\nMAIL\r\n"},
		{name: "CRLF.LF", in: "a\r\n.\nMAIL\r\n.\r\n", err: &StrayError{'\n'}, norm: "a\r\n\r\nMAIL\r\n"},
		{name: "CR.CR", in: "a\r.\rMAIL\r\n.\r\n", err: &StrayError{'\r'}, norm: "a . MAIL\r\n"},
		{name: "CR.CRLF", in: "a\r.\r\nMAIL\r\n.\r\n", err: &StrayError{'\r'}, norm: "a .\r\nMAIL\r\n"},
		{name: "CRLF.CR", in: "a\r\n.\rMAIL\r\n.\r\n", err: &StrayError{'\r'}, norm: "a\r\n MAIL\r\n"},
		{name: "CRLF.CRCRLF", in: "a\r\n.\r\r\nMAIL\r\n.\r\n", err: &StrayError{'\r'}, norm: "a\r\n \r\nMAIL\r\n"},
		{name: "CRCRLF.CRLF", in: "a\r\r\n.\r\nMAIL\r\n", err: &StrayError{'\r'}, norm: "a \r\n", rest: "MAIL\r\n"},
		{name: "LFCR.LFCR", in: "a\n\r.\n\rMAIL\r\n.\r\n", err: &StrayError{'\n'}, norm: "a\r\n .\r\n MAIL\r\n"},
		{name: "NUL", in: "a\x00b\r\n.\r\n", err: &StrayError{0}, norm: "a b\r\n"},
		{name: "NUL before end", in: "a\r\n\x00.\r\n.\r\n", err: &StrayError{0}, norm: "a\r\n .\r\n"},
		{name: "CRLF.NULCRLF", in: "a\r\n.\x00\r\nM\r\n.\r\n", err: &StrayError{0}, norm: "a\r\n \r\nM\r\n"},
		{name: "cut", in: "a\r\n.", err: io.ErrUnexpectedEOF, norm: "a\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, one := range []bool{false, true} {
				got, rest, err := readData(tt.in, one, Options{MaxLine: 50})
				if !sameError(err, tt.err) {
					t.Fatalf("error %v, want %v", err, tt.err)
				}
				if err == nil && got != tt.want || rest != tt.rest {
					t.Errorf("content %q rest %q, want %q rest %q", got, rest, tt.want, tt.rest)
				}
				got, rest, err = readData(tt.in, one, Options{Policy: Normalise, MaxLine: 50})
				if err != nil {
					continue
				}
				if want := tt.want + tt.norm; got != want || rest != tt.rest {
					t.Errorf("normalised %q rest %q, want %q rest %q", got, rest, want, tt.rest)
				}
			}
		})
	}
}

// readData reads in to the end of its data, draining behind an error, and
// returns what is left behind it.
func readData(in string, oneByte bool, o Options) (content, rest string, err error) {
	var src io.Reader = strings.NewReader(in)
	if oneByte {
		src = iotest.OneByteReader(src)
	}
	r := NewReader(src)
	defer r.Close()
	d := r.Data(o)
	got, err := io.ReadAll(d)
	if drained := d.Drain(1 << 20); drained != nil && err == nil {
		err = drained
	}
	left, _ := io.ReadAll(io.MultiReader(bytes.NewReader(r.buf[r.start:r.end]), src))
	return string(got), string(left), err
}

func sameError(got, want error) bool {
	var g, w *StrayError
	if errors.As(want, &w) {
		return errors.As(got, &g) && *g == *w
	}
	return errors.Is(got, want)
}

// Cutting the stream and the reader's buffer anywhere gives the same.
func TestDataAnyChunking(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := hostile(t) + "\r\n.\r\nrest"
		o := Options{Policy: Policy(rapid.IntRange(0, 1).Draw(t, "policy")), MaxLine: rapid.SampledFrom([]int{0, 4, 100}).Draw(t, "max")}
		want, wantRest, wantErr := readData(in, false, o)

		src := &cuts{t: t, s: in}
		r := NewReader(src)
		defer r.Close()
		d := r.Data(o)
		var got []byte
		var err error
		for err == nil {
			p := make([]byte, rapid.IntRange(1, 5).Draw(t, "read"))
			var n int
			n, err = d.Read(p)
			got = append(got, p[:n]...)
		}
		if err == io.EOF {
			err = nil
		}
		if drain := d.Drain(1 << 20); drain != nil {
			t.Fatal(drain)
		}
		rest := string(r.buf[r.start:r.end]) + src.s
		if string(got) != want && err == nil || rest != wantRest || !sameError(err, wantErr) {
			t.Fatalf("%q: got %q rest %q %v, want %q rest %q %v", in, got, rest, err, want, wantRest, wantErr)
		}
	})
}

// hostile draws text dense in what matters.
func hostile(t *rapid.T) string {
	return strings.Join(rapid.SliceOf(rapid.SampledFrom([]string{"\r\n", "\r", "\n", ".", "a", "\x00", "bcd", "\r\n.", "\r\n..", " "})).Draw(t, "text"), "")
}

type cuts struct {
	t *rapid.T
	s string
}

func (c *cuts) Read(p []byte) (int, error) {
	if c.s == "" {
		return 0, io.EOF
	}
	n := copy(p, c.s[:rapid.IntRange(1, min(len(c.s), 7)).Draw(c.t, "cut")])
	c.s = c.s[n:]
	return n, nil
}

// What the writer sends, the reader returns; the writer sends no stray octet.
func TestDotWriterReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		content := hostile(t)
		var wire bytes.Buffer
		w := NewDotWriter(&wire)
		var err error
		for src := (&cuts{t: t, s: content}); src.s != "" && err == nil; {
			p := make([]byte, 7)
			n, _ := src.Read(p)
			_, err = w.Write(p[:n])
		}
		if err == nil {
			err = w.Close()
		}
		if stray := hasStray(content); stray != (err != nil) {
			t.Fatalf("%q: stray %v, error %v", content, stray, err)
		}
		if sent := wire.String(); hasStray(sent) {
			t.Fatalf("sent %q", sent)
		}
		if err != nil {
			return
		}
		if content != "" && !strings.HasSuffix(content, "\r\n") {
			content += "\r\n"
		}
		got, rest, err := readData(wire.String(), false, Options{})
		if err != nil || got != content || rest != "" {
			t.Fatalf("%q became %q rest %q: %v", content, got, rest, err)
		}
	})
}

func hasStray(s string) bool {
	return strings.ContainsAny(strings.ReplaceAll(s, "\r\n", ""), "\r\n\x00")
}

func TestChunks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		content := hostile(t)
		r := NewReader(&cuts{t: t, s: content + "rest"})
		defer r.Close()
		c := r.Chunks(Options{})
		var got []byte
		var err error
		for left, ended := len(content), false; !ended; {
			n := rapid.IntRange(0, left).Draw(t, "chunk")
			left -= n
			ended = left == 0
			c.Begin(int64(n), ended)
			for err = nil; err == nil; {
				p := make([]byte, rapid.IntRange(1, 9).Draw(t, "read"))
				var n int
				n, err = c.Read(p)
				got = append(got, p[:n]...)
			}
			if err != ErrChunkEnd {
				break
			}
		}
		if hasStray(content) {
			if !errors.As(err, new(*StrayError)) {
				t.Fatalf("%q: %v", content, err)
			}
			return
		}
		if content != "" && !strings.HasSuffix(content, "\r\n") {
			content += "\r\n"
		}
		if err != io.EOF || string(got) != content {
			t.Fatalf("%q became %q: %v", content, got, err)
		}
	})
}

func TestChunkWriter(t *testing.T) {
	var wire bytes.Buffer
	w := NewChunkWriter(&wire)
	for _, p := range []string{"a\r", "\n.\r\n", "", "b"} {
		if _, err := w.Write([]byte(p)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if want := "BDAT 2\r\na\rBDAT 4\r\n\n.\r\nBDAT 1\r\nbBDAT 2 LAST\r\n\r\n"; wire.String() != want {
		t.Errorf("got %q, want %q", wire.String(), want)
	}
	if _, err := NewChunkWriter(io.Discard).Write([]byte("a\nb")); err == nil {
		t.Error("bare LF written")
	}
	w = NewChunkWriter(io.Discard)
	if _, err := w.Write([]byte("a\r")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err == nil {
		t.Error("bare CR at the end taken")
	}
}

func TestDrainIsBounded(t *testing.T) {
	r := NewReader(strings.NewReader(strings.Repeat("a\r\n", 100_000)))
	defer r.Close()
	if err := r.Data(Options{}).Drain(1000); !errors.Is(err, ErrTooMuch) {
		t.Errorf("got %v", err)
	}
}

func FuzzData(f *testing.F) {
	for _, s := range []string{"a\r\n.\r\n", "\r\r\n.\r\n.\r\n", "\n.\n", "..\r\n.\r\n"} {
		f.Add([]byte(s), true, uint8(3))
	}
	f.Fuzz(func(t *testing.T, in []byte, reject bool, cut uint8) {
		o := Options{Policy: Normalise, MaxLine: 100}
		if reject {
			o.Policy = Reject
		}
		got, rest, err := readData(string(in), false, o)
		again, restAgain, errAgain := readData(string(in), true, o)
		if err == nil && got != again || rest != restAgain || !sameError(errAgain, err) {
			t.Fatalf("whole: %q %q %v; in pieces: %q %q %v", got, rest, err, again, restAgain, errAgain)
		}
		if err != nil {
			return
		}
		if hasStray(got) {
			t.Fatalf("stray octets in %q", got)
		}
		var wire bytes.Buffer
		w := NewDotWriter(&wire)
		i := min(int(cut), len(got))
		_, _ = w.Write([]byte(got[:i]))
		_, _ = w.Write([]byte(got[i:]))
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if back, _, err := readData(wire.String(), false, o); err != nil || back != got {
			t.Fatalf("%q came back as %q: %v", got, back, err)
		}
	})
}

func BenchmarkData(b *testing.B) {
	line := strings.Repeat("x", 76) + "\r\n"
	in := []byte(strings.Repeat(line, 131) + ".\r\n")
	b.SetBytes(int64(len(in)))
	r := NewReader(nil)
	for b.Loop() {
		r.Reset(bytes.NewReader(in))
		if _, err := io.Copy(io.Discard, r.Data(Options{MaxLine: DefaultMaxLine})); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDotWriter(b *testing.B) {
	content := []byte(strings.Repeat(strings.Repeat("x", 76)+"\r\n", 131))
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		w := NewDotWriter(io.Discard)
		if _, err := w.Write(content); err != nil {
			b.Fatal(err)
		}
	}
}
