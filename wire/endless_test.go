package wire

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestTextFrom(t *testing.T) {
	for name, tt := range map[string]struct {
		in, want string
		err      error
		o        Options
	}{
		"LF":            {in: "a\nb\n", want: "a\r\nb\r\n"},
		"CRLF":          {in: "a\r\nb\r\n", want: "a\r\nb\r\n"},
		"mixed":         {in: "a\r\n.\n.\r\n", want: "a\r\n.\r\n.\r\n"},
		"no last end":   {in: "a\nb", want: "a\r\nb\r\n"},
		"CR at the end": {in: "a\r", err: &StrayError{'\r'}},
		"CR":            {in: "a\rb\n", err: &StrayError{'\r'}},
		"NUL":           {in: "a\x00\n", err: &StrayError{0}},
		"normalised":    {in: "a\rb\x00c\n", want: "a b c\r\n", o: Options{Policy: Normalise}},
		"long line":     {in: strings.Repeat("x", 99) + "\n", err: ErrLineTooLong, o: Options{MaxLine: 100}},
		"longest line":  {in: strings.Repeat("x", 98) + "\n", want: strings.Repeat("x", 98) + "\r\n", o: Options{MaxLine: 100}},
		"nothing":       {},
		"much":          {in: strings.Repeat("0123456789\n", 20_000), want: strings.Repeat("0123456789\r\n", 20_000)},
	} {
		for how, r := range map[string]io.Reader{
			"whole": strings.NewReader(tt.in), "octets": iotest.OneByteReader(strings.NewReader(tt.in)), "end with data": iotest.DataErrReader(strings.NewReader(tt.in)),
		} {
			text := TextFrom(r, tt.o)
			got, err := io.ReadAll(text)
			text.Close()
			var stray, want *StrayError
			switch {
			case errors.As(tt.err, &want):
				if !errors.As(err, &stray) || *stray != *want {
					t.Errorf("%s, %s: %v", name, how, err)
				}
			case !errors.Is(err, tt.err):
				t.Errorf("%s, %s: %v", name, how, err)
			case err == nil && string(got) != tt.want:
				t.Errorf("%s, %s: %.50q", name, how, got)
			}
		}
	}
	broken := errors.New("broken")
	if _, err := io.ReadAll(TextFrom(io.MultiReader(strings.NewReader("a\nb"), iotest.ErrReader(broken)), Options{})); err == nil {
		t.Error("text that broke off was taken")
	}
}

func FuzzTextFrom(f *testing.F) {
	f.Add([]byte("a\r\nb\nc"), uint8(3))
	f.Fuzz(func(t *testing.T, in []byte, cut uint8) {
		at := int(cut) % (len(in) + 1)
		pieces := io.MultiReader(bytes.NewReader(in[:at]), bytes.NewReader(in[at:]))
		got, err := io.ReadAll(TextFrom(pieces, Options{Policy: Normalise}))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Count(got, []byte("\n")) != bytes.Count(got, crlf) || bytes.Count(got, []byte("\r")) != bytes.Count(got, crlf) || bytes.IndexByte(got, 0) >= 0 {
			t.Fatalf("stray octets in %q", got)
		}
		if again, err := io.ReadAll(TextFrom(bytes.NewReader(got), Options{})); err != nil || !bytes.Equal(again, got) {
			t.Fatalf("%q, then %q, %v", got, again, err)
		}
	})
}
