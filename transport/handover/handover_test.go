package handover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"qstream/test/fakeqm"
	"qstream/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestReadEnvelope(t *testing.T) {
	long := strings.Repeat("x", wire.MaxAddress)
	for name, test := range map[string]struct {
		in, from string
		to       []string
		code     int
	}{
		"one":                  {in: "Fa@x\x00Tb@y\x00\x00", from: "a@x", to: []string{"b@y"}},
		"several":              {in: "Fa@x\x00Tb@y\x00Tc@z\x00\x00", from: "a@x", to: []string{"b@y", "c@z"}},
		"null sender":          {in: "F\x00Tb@y\x00\x00", to: []string{"b@y"}},
		"verp":                 {in: "Fa-@x-@[]\x00Tb@y\x00\x00", from: "a-@x-@[]", to: []string{"b@y"}},
		"not to be scanned":    {in: "Fa@x\x00Tb@y\x00Qc@z\x00\x00", from: "a@x", to: []string{"b@y", "c@z"}},
		"nobody":               {in: "Fa@x\x00\x00", from: "a@x"},
		"what follows is left": {in: "Fa@x\x00Tb@y\x00\x00more", from: "a@x", to: []string{"b@y"}},
		"longest":              {in: "F" + long + "\x00T" + long + "\x00\x00", from: long, to: []string{long}},
		"empty":                {in: "", code: CodeRead},
		"no last NUL":          {in: "Fa@x\x00Tb@y\x00", code: CodeRead},
		"cut in the sender":    {in: "Fa@", code: CodeRead},
		"cut in a recipient":   {in: "Fa@x\x00Tb", code: CodeRead},
		"no F":                 {in: "Ta@x\x00\x00", code: CodeEnvelope},
		"no T":                 {in: "Fa@x\x00Xb@y\x00\x00", code: CodeEnvelope},
		"long sender":          {in: "F" + long + "x\x00Tb@y\x00\x00", code: CodeAddress},
		"long recipient":       {in: "Fa@x\x00T" + long + "x\x00\x00", code: CodeAddress},
	} {
		t.Run(name, func(t *testing.T) {
			from, to, err := ReadEnvelope(iotest.OneByteReader(strings.NewReader(test.in)))
			if codeOf(err) != test.code || from != test.from || !slices.Equal(to, test.to) {
				t.Errorf("from %q to %q, %v", from, to, err)
			}
		})
	}
	_, _, err := ReadEnvelope(iotest.ErrReader(errors.New("gone")))
	if codeOf(err) != CodeRead {
		t.Errorf("a descriptor that fails: %v", err)
	}
	_, _, err = ReadEnvelope(io.MultiReader(strings.NewReader("F\x00"), endless{}))
	if codeOf(err) != CodeMemory {
		t.Errorf("an endless envelope: %v", err)
	}
}

// endless is one recipient after the other.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return copy(p, "Ta@x\x00"), nil }

func FuzzReadEnvelope(f *testing.F) {
	f.Add([]byte("Fa@x\x00Tb@y\x00\x00"))
	f.Add([]byte("F\x00Q\x00\x00"))
	f.Fuzz(func(t *testing.T, in []byte) {
		from, to, err := ReadEnvelope(bytes.NewReader(in))
		if err != nil {
			return
		}
		want := "F" + from + "\x00"
		for _, a := range to {
			want += "T" + a + "\x00"
		}
		if got := string(in[:len(want)]); strings.Count(got, "\x00")+1 != strings.Count(want+"\x00", "\x00") {
			t.Errorf("%q became %q", in, want)
		}
	})
}

func codeOf(err error) int {
	var f *Failure
	if errors.As(err, &f) {
		return f.Code
	}
	return 0
}

func TestParseServers(t *testing.T) {
	got, err := ParseServers("# ours\n192.0.2.1\n2001:db8::1 # second\n[2001:db8::2]:2628\r\n\nfe80::1%eth0\nqmqp.example:629, 192.0.2.9:1\nhost")
	want := []string{"192.0.2.1:628", "[2001:db8::1]:628", "[2001:db8::2]:2628", "[fe80::1%eth0]:628", "qmqp.example:629", "192.0.2.9:1", "host:628"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range []string{"192.0.2.1:0", "192.0.2.1:65536", "a:b:c", ":628", "http://x", "[::1", "x:smtp"} {
		if got, err := ParseServers("192.0.2.1\n" + bad); err == nil || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%s became %q, %v", bad, got, err)
		}
	}
}

func serve(t *testing.T, c fakeqm.Config) *fakeqm.Server {
	t.Helper()
	c.QMQP = true
	s, err := fakeqm.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func says(answer string) fakeqm.Config {
	return fakeqm.Config{Answer: func(string) string { return answer }}
}

func addrOf(s *fakeqm.Server) string { return fmt.Sprintf("127.0.0.1:%d", s.Port()) }

// free is an address where nobody listens.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func message(t *testing.T, text string) Message {
	t.Helper()
	c, err := Read(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return Message{c, "a@x.example", []string{"b@y.example", "c@z.example"}}
}

// What one server does, and what the next gets: nothing that the first may
// have taken, unless that is wanted.
func TestServersInTheirOrder(t *testing.T) {
	const ok = "Kok 1 qp 2"
	for name, test := range map[string]struct {
		first  *fakeqm.Config // nil: nobody listens
		again  bool
		code   int  // with the first alone
		second bool // gets the message
	}{
		"taken":                     {first: ptr(says(ok))},
		"nobody listens":            {code: CodeNoConnect, second: true},
		"refused for now":           {first: ptr(says("Znot now (#4.3.0)")), code: CodeDeferred, second: true},
		"refused for good":          {first: ptr(says("Dno such user (#5.1.1)")), code: CodeRefused},
		"hangs up in the message":   {first: &fakeqm.Config{HangUpAt: 4}, code: CodeBroken, second: true},
		"hangs up without answer":   {first: ptr(says("")), code: CodeBroken},
		"without answer, and again": {first: ptr(says("")), again: true, code: CodeBroken, second: true},
		"answers nonsense":          {first: &fakeqm.Config{Raw: "HTTP/1.1 400"}, code: CodeBroken},
		"answers with another mark": {first: &fakeqm.Config{Raw: "3:Xok,"}, code: CodeBroken},
	} {
		t.Run(name, func(t *testing.T) {
			first := free(t)
			if test.first != nil {
				first = addrOf(serve(t, *test.first))
			}
			second := serve(t, says(ok))
			text := strings.Repeat("Subject: hello\n\nworld\n", 5_000)
			if test.first != nil && test.first.HangUpAt > 0 {
				text = strings.Repeat(text, 100) // more than sockets hold
			}
			cfg := Config{Servers: []string{first}, Again: test.again, IO: 10 * time.Second}
			if err := Send(t.Context(), cfg, message(t, text)); codeOf(err) != test.code {
				t.Errorf("alone: %v", err)
			}
			var told []string
			cfg.Servers = append(cfg.Servers, addrOf(second))
			cfg.Tell = func(server string, f *Failure) { told = append(told, f.Text) }
			err := Send(t.Context(), cfg, message(t, text))
			got := second.Messages()
			if test.second != (len(got) == 1) || test.second != (err == nil && test.code != 0) || test.second != (len(told) == 1) {
				t.Fatalf("second got %d messages, %v, told %q", len(got), err, told)
			}
			if test.again && !strings.Contains(told[0], "may be delivered twice") {
				t.Errorf("told %q", told)
			}
			if test.second && (got[0].Content != text || got[0].From != "a@x.example" || !slices.Equal(got[0].To, []string{"b@y.example", "c@z.example"})) {
				t.Errorf("second got %d octets from %q to %q", len(got[0].Content), got[0].From, got[0].To)
			}
		})
	}
}

func ptr[T any](v T) *T { return &v }

func TestSilentServer(t *testing.T) {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here")
	}
	defer l.Close()
	cfg := Config{Servers: []string{l.Addr().String()}, IO: 100 * time.Millisecond}
	if err := Send(t.Context(), cfg, message(t, "x\n")); codeOf(err) != CodeBroken || !strings.Contains(err.Error(), "timed out") {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	cfg.IO, cfg.Again = time.Minute, true
	cfg.Servers = append(cfg.Servers, addrOf(serve(t, says("Kok"))))
	if err := Send(ctx, cfg, message(t, "x\n")); codeOf(err) != CodeBroken {
		t.Errorf("ended by its context: %v", err)
	}
}

func TestNoServers(t *testing.T) {
	if err := Send(t.Context(), Config{}, message(t, "x\n")); codeOf(err) != CodeConfig {
		t.Errorf("%v", err)
	}
}

// The text of an answer is hostile.
func TestAnswersAreMadePrintable(t *testing.T) {
	s := serve(t, fakeqm.Config{Raw: "9:D\x1b[31mno\n,"})
	err := Send(t.Context(), Config{Servers: []string{addrOf(s)}}, message(t, "x\n"))
	if codeOf(err) != CodeRefused || strings.ContainsAny(err.Error(), "\x1b\n") {
		t.Errorf("%q", err)
	}
}

// A message of any size is the same each time it is read, and leaves no file.
func TestContent(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.SampledFrom([]int{0, 1, inMemory - 1, inMemory, inMemory + 1, 3 * inMemory}).Draw(rt, "size")
		text := bytes.Repeat([]byte("0123456789abcde\n"), size/16+1)[:size]
		c, err := Read(iotest.HalfReader(bytes.NewReader(text)))
		if err != nil {
			rt.Fatal(err)
		}
		defer c.Close()
		for range 2 {
			r, err := c.open()
			if err != nil {
				rt.Fatal(err)
			}
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, text) || c.size != int64(size) {
				rt.Fatalf("%d octets of %d, %v", len(got), size, err)
			}
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 0 {
			rt.Fatalf("left %q", left)
		}
	})
	big := io.LimitReader(zeros{}, 2*inMemory)
	if _, err := Read(io.MultiReader(big, iotest.ErrReader(errors.New("gone")))); codeOf(err) != CodeRead {
		t.Errorf("a descriptor that fails: %v", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(io.LimitReader(zeros{}, 2*inMemory)); codeOf(err) != CodeWrite {
		t.Errorf("no place on the disk: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
