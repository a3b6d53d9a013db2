package mail

import (
	"bufio"
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestMboxFrom(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for in, want := range map[string]string{
		"a@b.example": "From a@b.example Sun Mar  1 12:00:00 2026\n",
		"":            "From MAILER-DAEMON Sun Mar  1 12:00:00 2026\n",
		"a b\nFrom c": "From a_b_From_c Sun Mar  1 12:00:00 2026\n",
	} {
		if got := MboxFrom(in, at); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestCopyMbox(t *testing.T) {
	long := strings.Repeat("x", 15)
	for in, want := range map[string]string{
		"Subject: x\r\n\r\nFrom a\r\n>From b\r\n>>From c\r\n from\r\n": "Subject: x\n\n>From a\n>>From b\n>>>From c\n from\n\n",
		"no end":                "no end\n\n",
		"":                      "\n",
		"a\rb\n":                "a\rb\n\n",
		long + "\r\nFrom x\r\n": long + "\n>From x\n\n", // the CR is the last octet of the reader's buffer
		long + "\rx\r\n":        long + "\rx\n\n",
		long + "xFrom x\r\n":    long + "xFrom x\n\n",
	} {
		var b bytes.Buffer
		w := bufio.NewWriter(&b)
		if err := CopyMbox(w, bufio.NewReaderSize(strings.NewReader(in), 16)); err != nil {
			t.Error(err)
		}
		if err := w.Flush(); err != nil || b.String() != want {
			t.Errorf("%q became %q, want %q, %v", in, b.String(), want, err)
		}
	}
}

// FuzzMbox: whatever the message, undoing the quoting gives it back with its
// lines ended by LF, and no line of it begins another message.
func FuzzMbox(f *testing.F) {
	for _, s := range []string{"Subject: one\r\n\r\nFrom here\r\n>From there\r\n", "", "From x", "a\r", "a\r\r\n\n>>From ", strings.Repeat("x", 70_000) + "\r\nFrom y\r\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var out bytes.Buffer
		w := bufio.NewWriter(&out)
		if err := CopyMbox(w, bufio.NewReaderSize(strings.NewReader(s), 64<<10)); err != nil {
			t.Fatal(err)
		}
		_ = w.Flush()
		var back strings.Builder
		for line := range strings.Lines(strings.TrimSuffix(out.String(), "\n")) {
			if strings.HasPrefix(line, "From ") {
				t.Fatalf("%q begins a message", line)
			}
			if rest := strings.TrimLeft(line, ">"); rest != line && strings.HasPrefix(rest, "From ") {
				line = line[1:]
			}
			back.WriteString(line)
		}
		want := strings.ReplaceAll(s, "\r\n", "\n")
		if want != "" && !strings.HasSuffix(want, "\n") {
			want += "\n"
		}
		if back.String() != want {
			t.Errorf("%q came back as %q", s, back.String())
		}
	})
}
