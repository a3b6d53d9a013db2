package icap_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qstream/engine"
	"qstream/engine/enginetest"
	"qstream/engine/icap"
)

// server reads one request and answers as say does; atPreview answers before
// the rest is asked for.
type server struct {
	atPreview string
	say       func(content []byte) string
	heard     chan string // heads, for who wants them
}

func (s *server) serve(c net.Conn) {
	in := bufio.NewReader(c)
	text := textproto.NewReader(in)
	line, err := text.ReadLine()
	if err != nil {
		return
	}
	header, err := text.ReadMIMEHeader()
	if err != nil {
		return
	}
	if strings.HasPrefix(line, "OPTIONS ") {
		_, _ = io.WriteString(c, "ICAP/1.0 200 OK\r\nMethods: RESPMOD, REQMOD\r\nService: test\r\nISTag: \"tag-1\"\r\nAllow: 204\r\nPreview: 1024\r\nEncapsulated: null-body=0\r\n\r\n")
		return
	}
	heads := line + "\n" + header.Get("Encapsulated") + "\n"
	var size int
	if _, err := fmt.Sscanf(header.Get("Encapsulated")[strings.LastIndex(header.Get("Encapsulated"), "=")+1:], "%d", &size); err != nil {
		return
	}
	inner := make([]byte, size)
	if _, err := io.ReadFull(in, inner); err != nil {
		return
	}
	if s.heard != nil {
		s.heard <- heads + string(inner)
	}
	content, whole, err := preview(in)
	if err != nil {
		return
	}
	if s.atPreview != "" {
		_, _ = io.WriteString(c, s.atPreview)
		return
	}
	if !whole {
		_, _ = io.WriteString(c, "ICAP/1.0 100 Continue\r\n\r\n")
		rest, err := io.ReadAll(httputil.NewChunkedReader(in))
		if err != nil {
			return
		}
		content = append(content, rest...)
	}
	_, _ = io.WriteString(c, s.say(content))
}

func preview(in *bufio.Reader) (content []byte, whole bool, err error) {
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return nil, false, err
		}
		var n int
		if _, err := fmt.Sscanf(line, "%x", &n); err != nil {
			return nil, false, err
		}
		b := make([]byte, n+2)
		if _, err := io.ReadFull(in, b); err != nil {
			return nil, false, err
		}
		if n == 0 {
			return content, strings.Contains(line, "ieof"), nil
		}
		content = append(content, b[:n]...)
	}
}

const (
	fine = "ICAP/1.0 204 Unmodified\r\nISTag: \"tag-1\"\r\n\r\n"
	bad  = "ICAP/1.0 200 OK\r\nISTag: \"tag-1\"\r\nX-Infection-Found: Type=0; Resolution=2; Threat=Test.Bad;\r\nEncapsulated: res-hdr=0, null-body=30\r\n\r\nHTTP/1.1 403 Forbidden\r\n\r\n"
)

func honest(content []byte) string {
	if bytes.Contains(content, []byte(enginetest.Bad)) {
		return bad
	}
	return fine
}

func client(t *testing.T, cfg icap.Config) *icap.Client {
	t.Helper()
	cfg.Service = "avscan"
	if cfg.Patience == 0 {
		cfg.Patience = enginetest.Patience
	}
	cfg.Connect = cfg.Patience
	c, err := icap.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSuite(t *testing.T) {
	for _, method := range []string{"RESPMOD", "REQMOD"} {
		t.Run(method, func(t *testing.T) {
			enginetest.Run(t, enginetest.Maker{
				New: func(t *testing.T, network, address string, patience time.Duration) engine.Engine {
					return client(t, icap.Config{Network: network, Address: address, Method: method, Patience: patience})
				},
				Honest: (&server{say: honest}).serve,
			})
		})
	}
}

func TestContentArrives(t *testing.T) {
	for _, size := range []int{0, 1, 1023, 1024, 1025, 100_000} {
		var got []byte
		s := &server{say: func(b []byte) string { got = b; return fine }}
		c := client(t, icap.Config{Network: "tcp", Address: enginetest.Serve(t, "tcp", s.serve)})
		sent := strings.Repeat("0123456789", size/10+1)[:size]
		v := c.Scan(t.Context(), strings.NewReader(sent), enginetest.Facts(0))
		if v.Outcome != engine.Clean || v.Signatures != "tag-1" || string(got) != sent {
			t.Errorf("%d bytes: %+v, %d arrived", size, v, len(got))
		}
	}
}

func TestRequests(t *testing.T) {
	for method, want := range map[string]string{
		"RESPMOD": "RESPMOD icap://%s/avscan ICAP/1.0\nreq-hdr=0, res-hdr=70, res-body=138\n" +
			"GET http://qstream.invalid/message HTTP/1.1\r\nHost: qstream.invalid\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: message/rfc822\r\nContent-Length: 1\r\n\r\n",
		"REQMOD": "REQMOD icap://%s/avscan ICAP/1.0\nreq-hdr=0, req-body=120\n" +
			"POST http://qstream.invalid/message HTTP/1.1\r\nHost: qstream.invalid\r\nContent-Type: message/rfc822\r\nContent-Length: 1\r\n\r\n",
	} {
		s := &server{say: honest, heard: make(chan string, 1)}
		addr := enginetest.Serve(t, "tcp", s.serve)
		enginetest.Ask(t, client(t, icap.Config{Network: "tcp", Address: addr, Method: method}), "x")
		if diff := cmp.Diff(fmt.Sprintf(want, addr), <-s.heard); diff != "" {
			t.Error(diff)
		}
	}
}

func TestAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		preview, end string
		want         engine.Verdict
	}{
		"clean":              {"", fine, engine.Verdict{Outcome: engine.Clean, Signatures: "tag-1"}},
		"infected":           {"", bad, engine.Verdict{Outcome: engine.Malware, Name: "Test.Bad", Signatures: "tag-1"}},
		"infected, no name":  {"", "ICAP/1.0 200 OK\r\nX-Infection-Found: Type=0\r\n\r\n", engine.Verdict{Outcome: engine.Malware, Name: "unnamed"}},
		"a virus id":         {"", "ICAP/1.0 200 OK\r\nX-Virus-ID: Eicar\r\n\r\n", engine.Verdict{Outcome: engine.Malware, Name: "Eicar"}},
		"violations":         {"", "ICAP/1.0 200 OK\r\nX-Violations-Found: 1\r\n\r\n", engine.Verdict{Outcome: engine.Malware, Name: "violations"}},
		"bad in the preview": {bad, "", engine.Verdict{Outcome: engine.Malware, Name: "Test.Bad", Signatures: "tag-1"}},
		"only the preview":   {fine, "", engine.Verdict{Outcome: engine.Unscannable, Reason: engine.NotSupported, Signatures: "tag-1", Detail: "the server doesn't want more than the preview"}},
		"an error page":      {"", "ICAP/1.0 200 OK\r\n\r\nHTTP/1.1 403 Forbidden\r\n\r\n", engine.Verdict{Outcome: engine.Refused, Advice: engine.Refuse, Detail: "HTTP/1.1 403 Forbidden"}},
		"a changed message":  {"", "ICAP/1.0 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", engine.Verdict{Reason: engine.Broken, Detail: `the server answers with a message instead of 204: "HTTP/1.1 200 OK"`}},
		"too large":          {"", "ICAP/1.0 413 no\r\n\r\n", engine.Verdict{Outcome: engine.Unscannable, Reason: engine.TooLarge, Detail: "the server answers 413"}},
		"overloaded":         {"", "ICAP/1.0 503 busy\r\n\r\n", engine.Verdict{Reason: engine.Trouble, Detail: "the server answers 503"}},
		"continue again":     {"", "ICAP/1.0 100 Continue\r\n\r\n", engine.Verdict{Reason: engine.Trouble, Detail: "the server answers 100"}},
		"something else":     {"", "HTTP/1.1 200 OK\r\n\r\n", engine.Verdict{Reason: engine.Broken, Detail: `the server says "HTTP/1.1 200 OK"`}},
	} {
		s := &server{atPreview: test.preview, say: func([]byte) string { return test.end }}
		c := client(t, icap.Config{Network: "tcp", Address: enginetest.Serve(t, "tcp", s.serve)})
		test.want.Engine = "icap"
		if diff := cmp.Diff(test.want, enginetest.Ask(t, c, strings.Repeat("x", 5000))); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestTooLarge(t *testing.T) {
	c := client(t, icap.Config{Network: "tcp", Address: enginetest.Serve(t, "tcp", (&server{say: honest}).serve), MaxSize: 100_000})
	for _, told := range []int64{0, 200_000} {
		v := c.Scan(t.Context(), strings.NewReader(strings.Repeat("x", 200_000)), enginetest.Facts(told))
		if v.Outcome != engine.Unscannable || v.Reason != engine.TooLarge {
			t.Errorf("%+v", v)
		}
	}
}

// TestSizes: what is told of the size goes before the content, so it must hold.
func TestSizes(t *testing.T) {
	c := client(t, icap.Config{Network: "tcp", Address: enginetest.Serve(t, "tcp", (&server{say: honest}).serve)})
	for _, size := range []int{100, 5000} {
		for _, told := range []int{size - 1, size + 1} {
			v := c.Scan(t.Context(), strings.NewReader(strings.Repeat("x", size)), enginetest.Facts(int64(told)))
			if v.Outcome != engine.Failed || v.Reason != engine.Unreadable {
				t.Errorf("%d of %d: %+v", size, told, v)
			}
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for name, cfg := range map[string]icap.Config{
		"no network": {Address: "x:1", Service: "a"}, "no address": {Network: "tcp", Service: "a"}, "no service": {Network: "tcp", Address: "x:1"},
		"a broken service": {Network: "tcp", Address: "x:1", Service: "a\r\nb"}, "a method": {Network: "tcp", Address: "x:1", Service: "a", Method: "GET"},
		"a preview": {Network: "tcp", Address: "x:1", Service: "a", Preview: -1},
	} {
		if _, err := icap.New(cfg); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(fine)
	f.Add(bad)
	f.Fuzz(func(t *testing.T, said string) {
		s := &server{say: func([]byte) string { return said }}
		c := client(t, icap.Config{Network: "tcp", Address: enginetest.Serve(t, "tcp", s.serve)})
		v := enginetest.Ask(t, c, "x")
		if v.Outcome == engine.Clean && !strings.Contains(said, " 204") || len(v.Name)+len(v.Detail) > 2*engine.MaxText {
			t.Errorf("%q: %+v", said, v)
		}
	})
}
