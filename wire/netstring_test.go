package wire

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

func TestShort(t *testing.T) {
	for _, tt := range []struct {
		name, in, want string
		err            error
	}{
		{"empty", "0:,", "", nil},
		{"some", "5:a:,\n\x00,", "a:,\n\x00", nil},
		{"longest", "10:0123456789,", "0123456789", nil},
		{"too long", "11:0123456789a,", "", ErrNetstringSize},
		{"nothing", "", "", io.ErrUnexpectedEOF},
		{"no colon", "1", "", io.ErrUnexpectedEOF},
		{"no content", "2:a", "", io.ErrUnexpectedEOF},
		{"no comma yet", "1:a", "", io.ErrUnexpectedEOF},
		{"another than a comma", "1:ab", "", ErrNetstring},
		{"content too long for its length", "1:abc,", "", ErrNetstring},
		{"leading zero", "01:a,", "", ErrNetstring},
		{"two zeros", "00:,", "", ErrNetstring},
		{"no digits", ":,", "", ErrNetstring},
		{"sign", "+1:a,", "", ErrNetstring},
		{"minus", "-1:a,", "", ErrNetstring},
		{"space", " 1:a,", "", ErrNetstring},
		{"line", "MAIL FROM:<a@b>\r\n", "", ErrNetstring},
		{"far too long", "1000000000000:", "", ErrNetstring},
		{"longest to skip", "1048576:", "", io.ErrUnexpectedEOF},
		{"14 digits", "10000000000000:", "", ErrNetstring},
		{"overflow", strings.Repeat("9", 40) + ":", "", ErrNetstring},
	} {
		for _, one := range []bool{false, true} {
			r := netReader(tt.in, one)
			got, err := r.Stream().Short(10)
			if string(got) != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("%s: %q %v, want %q %v", tt.name, got, err, tt.want, tt.err)
			}
			r.Close()
		}
	}
}

func netReader(in string, oneByte bool) *Reader {
	if oneByte {
		return NewReader(iotest.OneByteReader(strings.NewReader(in)))
	}
	return NewReader(strings.NewReader(in))
}

func TestLengthLimit(t *testing.T) {
	for limit, want := range map[int64]error{12: nil, 11: ErrNetstringSize, 1: ErrNetstringSize} {
		n, err := netReader("12:", true).Stream().Length(limit)
		if !errors.Is(err, want) || err == nil && n != 12 {
			t.Errorf("limit %d: %d %v", limit, n, err)
		}
	}
	if _, err := netReader("", false).Stream().Length(1); err != io.EOF {
		t.Errorf("end of the stream: %v", err)
	}
}

// A frame's netstrings end where it does; nobody waits for octets behind it.
func TestFrame(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     []string
		err      error
	}{
		{"none", "0:,", nil, nil},
		{"two", "7:1:a,0:,,", []string{"a", ""}, nil},
		{"beyond", "4:2:a,,", nil, ErrNetstring},
		{"beyond by its comma", "3:1:a,,", nil, ErrNetstring},
		{"far beyond", "4:999999:", nil, ErrNetstring},
		{"length that goes on", "3:123", nil, ErrNetstring},
		{"a digit left over", "5:1:a,1", []string{"a"}, ErrNetstring},
		{"inner comma missing", "4:1:ab,", nil, ErrNetstring},
		{"outer comma missing", "4:1:a,x", []string{"a"}, ErrNetstring},
		{"cut", "4:1:a,", []string{"a"}, io.ErrUnexpectedEOF},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := NewReader(&impatient{in: strings.NewReader(tt.in), endless: tt.err == ErrNetstring})
			defer r.Close()
			got, err := frame(r, 100)
			if strings.Join(got, "|") != strings.Join(tt.want, "|") || !errors.Is(err, tt.err) {
				t.Errorf("%q %v, want %q %v", got, err, tt.want, tt.err)
			}
		})
	}
}

var errWaited = errors.New("waited for more than has to come")

// impatient fails instead of waiting.
type impatient struct {
	in      io.Reader
	endless bool
}

func (i *impatient) Read(p []byte) (int, error) {
	n, err := i.in.Read(p[:1])
	if err == io.EOF && i.endless {
		return n, errWaited
	}
	return n, err
}

func frame(r *Reader, limit int) (all []string, err error) {
	f, err := r.Stream().Open(1 << 20)
	if err != nil {
		return nil, err
	}
	for f.More() {
		s, err := f.Short(limit)
		if err != nil && err != ErrNetstringSize {
			return all, err
		}
		all = append(all, string(s))
	}
	return all, f.Close()
}

// What AppendNetstring writes is read back, however it is cut, and a length
// is as long as netstringSize says.
func TestNetstringsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOf(rapid.StringMatching(`[0-9:,a\n\x00]{0,30}`)).Draw(t, "all")
		var inner, wire []byte
		for _, s := range all {
			inner = AppendNetstring(inner, s)
			if want := netstringSize(int64(len(s))); int64(len(AppendNetstring(nil, s))) != want {
				t.Fatalf("%q has not %d octets", s, want)
			}
		}
		wire = AppendNetstring(wire, string(inner))
		r := NewReader(&cuts{t: t, s: string(wire) + "rest"})
		defer r.Close()
		got, err := frame(r, 20)
		if err != nil || len(got) != len(all) {
			t.Fatalf("%q: %q %v", all, got, err)
		}
		for i, s := range all {
			if len(s) > 20 {
				s = ""
			}
			if got[i] != s {
				t.Fatalf("%q, want %q", got[i], s)
			}
		}
	})
}

// model reads a netstring as the definition says: cr.yp.to/proto/netstrings.
func model(in string) (content, rest string, ok bool) {
	digits, after, found := strings.Cut(in, ":")
	n, err := strconv.ParseUint(digits, 10, 40)
	if !found || err != nil || strings.TrimLeft(digits, "0123456789") != "" || len(digits) > 1 && digits[0] == '0' ||
		n > maxSkipped || n >= uint64(len(after)) || after[n] != ',' {
		return "", in, false
	}
	return after[:n], after[n+1:], true
}

func FuzzNetstring(f *testing.F) {
	for _, s := range []string{"0:,", "3:abc,4:1:a,,", "01:a,", "9999999999999:,", "12:5:hello,2:ab,,"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		whole, cut := netReader(in, false), netReader(in, true)
		defer whole.Close()
		defer cut.Close()
		for rest := in; ; {
			a, errA := whole.Stream().Short(maxSkipped)
			b, errB := cut.Stream().Short(maxSkipped)
			if string(a) != string(b) || (errA == nil) != (errB == nil) {
				t.Fatalf("whole: %q %v; in pieces: %q %v", a, errA, b, errB)
			}
			want, behind, ok := model(rest)
			if ok != (errA == nil) || ok && string(a) != want {
				t.Fatalf("%q: %q %v, want %q %v", rest, a, errA, want, ok)
			}
			if rest = behind; !ok {
				break
			}
		}
		r := netReader(in, true)
		defer r.Close()
		_, _ = frame(r, 10)
		if len(r.buf) > largeBuffer {
			t.Fatalf("buffer of %d octets", len(r.buf))
		}
	})
}

func TestText(t *testing.T) {
	long := strings.Repeat("x", 48)
	for _, tt := range []struct {
		name, in string
		unix     bool
		want     string
		err      error
		norm     string // with Normalise, if it is an error with Reject
	}{
		{name: "empty", in: "", want: ""},
		{name: "empty unix", in: "", unix: true, want: ""},
		{name: "lines", in: "a\r\n.\r\n\r\n", want: "a\r\n.\r\n\r\n"},
		{name: "unix lines", in: "a\n.\n\n", unix: true, want: "a\r\n.\r\n\r\n"},
		{name: "no end", in: "a\nb", unix: true, want: "a\r\nb\r\n"},
		{name: "CRLF in unix lines", in: "a\r\nb\n\r\n", unix: true, want: "a\r\nb\r\n\r\n"},
		{name: "LF in lines", in: "a\nb\r\n", err: &StrayError{'\n'}, norm: "a\r\nb\r\n"},
		{name: "CR in unix lines", in: "a\rb\n", unix: true, err: &StrayError{'\r'}, norm: "a b\r\n"},
		{name: "CRCRLF in unix lines", in: "a\r\r\nb\n", unix: true, err: &StrayError{'\r'}, norm: "a \r\nb\r\n"},
		{name: "CR at the end", in: "a\r", unix: true, err: &StrayError{'\r'}, norm: "a \r\n"},
		{name: "NUL", in: "a\n\x00b\n", unix: true, err: &StrayError{0}, norm: "a\r\n b\r\n"},
		{name: "longest", in: long + "\n" + long, unix: true, want: long + "\r\n" + long + "\r\n"},
		{name: "too long", in: "a\n" + long + "x\n", unix: true, err: ErrLineTooLong},
		{name: "far too long", in: strings.Repeat(long, 500), unix: true, err: ErrLineTooLong},
	} {
		for _, one := range []bool{false, true} {
			got, rest, err := readText(tt.in, tt.unix, one, Options{MaxLine: 50})
			if !sameError(err, tt.err) || err == nil && got != tt.want || rest != "rest" {
				t.Errorf("%s: %q rest %q %v, want %q %v", tt.name, got, rest, err, tt.want, tt.err)
			}
			got, rest, err = readText(tt.in, tt.unix, one, Options{MaxLine: 50, Policy: Normalise})
			if want := tt.want + tt.norm; err == nil && got != want || rest != "rest" {
				t.Errorf("%s: normalised %q rest %q %v, want %q", tt.name, got, rest, err, want)
			}
		}
	}
}

// readText reads in as a message, and what stands behind it.
func readText(in string, unix, oneByte bool, o Options) (content, rest string, err error) {
	r := netReader(in+"rest", oneByte)
	defer r.Close()
	text := r.Text(int64(len(in)), unix, o)
	got, err := io.ReadAll(text)
	if drained := text.Drain(); drained != nil {
		return "", "", drained
	}
	left, _ := io.ReadAll(io.MultiReader(bytes.NewReader(r.buf[r.start:r.end]), r.r))
	return string(got), string(left), err
}

// Lines with LF become what lines with CRLF are, whatever the cuts; and what
// LineWriter makes of the content becomes the same content.
func TestTextAnyCut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := hostile(t)
		o := Options{Policy: Policy(rapid.IntRange(0, 1).Draw(t, "policy")), MaxLine: rapid.SampledFrom([]int{0, 4, 100}).Draw(t, "max")}
		unix := rapid.Bool().Draw(t, "unix")
		want, _, wantErr := readText(in, unix, false, o)
		r := NewReader(&cuts{t: t, s: in})
		defer r.Close()
		text := r.Text(int64(len(in)), unix, o)
		var got []byte
		var err error
		for err == nil {
			p := make([]byte, rapid.IntRange(1, 5).Draw(t, "read"))
			var n int
			n, err = text.Read(p)
			got = append(got, p[:n]...)
		}
		if err == io.EOF {
			err = nil
		}
		if !sameError(err, wantErr) || err == nil && string(got) != want {
			t.Fatalf("%q: %q %v, want %q %v", in, got, err, want, wantErr)
		}
		if err != nil {
			return
		}
		if hasStray(string(got)) {
			t.Fatalf("%q became %q", in, got)
		}
		writesBack(t, string(got))
	})
}

func writesBack(t *rapid.T, content string) {
	for _, unix := range []bool{false, true} {
		var out bytes.Buffer
		w := NewLineWriter(&out, unix)
		for src := (&cuts{t: t, s: content}); src.s != ""; {
			p := make([]byte, 7)
			n, _ := src.Read(p)
			if _, err := w.Write(p[:n]); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil || w.Size() != int64(out.Len()) {
			t.Fatalf("%d of %d octets, %v", w.Size(), out.Len(), err)
		}
		if n, err := UnixSize(strings.NewReader(content)); unix && (err != nil || n != w.Size()) {
			t.Fatalf("size %d %v", n, err)
		}
		if got, _, err := readText(out.String(), unix, false, Options{}); err != nil || got != content {
			t.Fatalf("%q came back as %q: %v", content, got, err)
		}
	}
}

func TestLineWriterRefuses(t *testing.T) {
	for in, want := range map[string]byte{"a\nb": '\n', "a\rb": '\r', "a\r": '\r', "\x00": 0, "\n": '\n', "a\r\r\n": '\r'} {
		for _, unix := range []bool{false, true} {
			var out bytes.Buffer
			w := NewLineWriter(&out, unix)
			var err error
			for i := range in {
				if _, err = w.Write([]byte{in[i]}); err != nil {
					break
				}
			}
			if err == nil {
				err = w.Close()
			}
			if !sameError(err, &StrayError{want}) {
				t.Errorf("%q unix %v: %v", in, unix, err)
			}
		}
	}
}

func BenchmarkText(b *testing.B) {
	for _, end := range []string{"\n", "\r\n"} {
		b.Run(strconv.Quote(end), func(b *testing.B) {
			in := []byte(strings.Repeat(strings.Repeat("x", 76)+end, 5000))
			b.SetBytes(int64(len(in)))
			r := NewReader(nil)
			for b.Loop() {
				r.Reset(bytes.NewReader(in))
				if _, err := io.Copy(io.Discard, r.Text(int64(len(in)), end == "\n", Options{MaxLine: DefaultMaxLine})); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
