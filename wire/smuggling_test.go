package wire

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

// Every ending of up to six octets around a dot, cut at every place into two
// packets or two chunks: only CRLF.CRLF ends content, and nothing that was
// taken can end it early for whom it is passed on to, however lax that one is.
func TestNoEndingSmuggles(t *testing.T) {
	const before, behind = "hello", "MAIL FROM:<evil@x>\r\n.\r\nrest"
	for _, ending := range endings() {
		text := before + ending + behind
		end := strings.Index(text, "\r\n.\r\n")
		for cut := len(before); cut <= len(before)+len(ending)+3; cut++ {
			for _, policy := range []Policy{Reject, Normalise} {
				got, rest, err := readCut(text, cut, Options{Policy: policy})
				if rest != text[end+len("\r\n.\r\n"):] {
					t.Fatalf("%q cut at %d: ended before %q", text, cut, rest)
				}
				checkTaken(t, text[:end+2], policy, got, err)
			}
		}
	}
}

// The same by BDAT, where all octets of a chunk are content.
func TestNoChunkSmuggles(t *testing.T) {
	const before, behind = "hello", "MAIL FROM:<evil@x>\r\n"
	for _, ending := range endings() {
		text := before + ending + behind
		for cut := len(before); cut <= len(before)+len(ending); cut++ {
			for _, policy := range []Policy{Reject, Normalise} {
				got, err := readChunks(text, cut, Options{Policy: policy})
				checkTaken(t, text, policy, got, err)
			}
		}
	}
}

// endings are all texts of up to five of the octets that matter, and of those
// of six a fifth, another one each time; with QSTREAM_TEST_LONG all of them.
func endings() []string {
	all, last := []string{""}, []string{""}
	for range 6 {
		var next []string
		for _, s := range last {
			for _, c := range []string{"\r", "\n", "\x00", ".", "x"} {
				next = append(next, s+c)
			}
		}
		all, last = append(all, next...), next
	}
	if os.Getenv("QSTREAM_TEST_LONG") == "" {
		rand.Shuffle(len(last), func(i, j int) { last[i], last[j] = last[j], last[i] })
		all = append(all[:len(all)-len(last)], last[:len(last)/5]...)
	}
	return all
}

// checkTaken holds what was taken of a text against the policy, and sends it on.
func checkTaken(t *testing.T, text string, policy Policy, got string, err error) {
	t.Helper()
	if policy == Reject {
		var stray *StrayError
		if hasStray(text) != errors.As(err, &stray) {
			t.Fatalf("%q: took %q, %v", text, got, err)
		}
		if err != nil {
			return
		}
	}
	if err != nil || hasStray(got) {
		t.Fatalf("%q became %q, %v", text, got, err)
	}
	var sent bytes.Buffer
	w := NewDotWriter(&sent)
	if _, err := io.WriteString(w, got); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	out := "\r\n" + sent.String()
	if hasStray(out) || strings.Index(out, "\r\n.\r\n") != len(out)-len("\r\n.\r\n") {
		t.Fatalf("%q is sent on as %q", text, out)
	}
}

func readCut(text string, cut int, o Options) (got, rest string, err error) {
	src := io.MultiReader(strings.NewReader(text[:cut]), strings.NewReader(text[cut:]))
	r := NewReader(src)
	defer r.Close()
	d := r.Data(o)
	content, err := io.ReadAll(d)
	if err != nil {
		if drain := d.Drain(1 << 20); drain != nil {
			return "", "", drain
		}
	}
	left, _ := io.ReadAll(src)
	return string(content), string(r.buf[r.start:r.end]) + string(left), err
}

func readChunks(text string, cut int, o Options) (string, error) {
	r := NewReader(strings.NewReader(text))
	defer r.Close()
	c := r.Chunks(o)
	var got []byte
	for i, size := range []int{cut, len(text) - cut} {
		c.Begin(int64(size), i == 1)
		part, err := io.ReadAll(c)
		got = append(got, part...)
		if err != nil && err != ErrChunkEnd {
			return string(got), err
		}
	}
	return string(got), nil
}
