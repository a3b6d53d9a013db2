package wire

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestReadLine(t *testing.T) {
	long := strings.Repeat("x", 10_000)
	in := "NOOP\r\n\r\nbare\nN\x00L\r\nC\rR\r\n" + long + "\r\nafter\r\nlast"
	for _, one := range []bool{false, true} {
		var src io.Reader = strings.NewReader(in)
		if one {
			src = iotest.OneByteReader(src)
		}
		r := NewReader(src)
		for _, want := range []struct {
			line string
			err  error
		}{
			{"NOOP", nil}, {"", nil}, {"", &StrayError{'\n'}}, {"", &StrayError{0}}, {"", &StrayError{'\r'}},
			{"", ErrLineTooLong}, {"after", nil}, {"", io.ErrUnexpectedEOF},
		} {
			line, err := r.ReadLine(100, Reject)
			if string(line) != want.line || !sameError(err, want.err) {
				t.Fatalf("got %q %v, want %q %v", line, err, want.line, want.err)
			}
		}
		r.Close()
	}
}

func TestReadLineLimits(t *testing.T) {
	r := NewReader(strings.NewReader("12345678\r\n123456789\r\n" + strings.Repeat("y", 100_000) + "\r\na\nb\r\n"))
	defer r.Close()
	if line, err := r.ReadLine(10, Reject); err != nil || string(line) != "12345678" {
		t.Errorf("%q %v", line, err)
	}
	if _, err := r.ReadLine(10, Reject); !errors.Is(err, ErrLineTooLong) {
		t.Error(err)
	}
	if line, err := r.ReadLine(200_000, Reject); err != nil || len(line) != 100_000 {
		t.Errorf("%d %v", len(line), err)
	}
	if line, err := r.ReadLine(10, Normalise); err != nil || string(line) != "a" {
		t.Errorf("%q %v", line, err)
	}
	r.Reset(strings.NewReader("c\r\n"))
	if line, err := r.ReadLine(10, Reject); err != nil || string(line) != "c" {
		t.Errorf("after a reset: %q %v", line, err)
	}
	if _, err := r.ReadLine(10, Reject); err != io.EOF {
		t.Error(err)
	}
}

func FuzzReadLine(f *testing.F) {
	f.Add("a\r\nb\nc\x00\r\n")
	f.Fuzz(func(t *testing.T, in string) {
		r := NewReader(iotest.OneByteReader(strings.NewReader(in)))
		defer r.Close()
		whole := NewReader(strings.NewReader(in))
		defer whole.Close()
		for {
			a, errA := r.ReadLine(20, Reject)
			b, errB := whole.ReadLine(20, Reject)
			if string(a) != string(b) || (errA == nil) != (errB == nil) {
				t.Fatalf("%q %v, %q %v", a, errA, b, errB)
			}
			if len(a) > 18 || hasStray(string(a)) {
				t.Fatalf("took %q", a)
			}
			if errA != nil && !errors.Is(errA, ErrLineTooLong) && !errors.As(errA, new(*StrayError)) {
				return
			}
		}
	})
}
