package rspamd_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qstream/engine"
	"qstream/engine/enginetest"
	"qstream/engine/rspamd"
)

// serve answers one request on a connection as say does.
func serve(say func(r *http.Request, content []byte) (int, string)) func(net.Conn) {
	return func(c net.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		content, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		code, body := 200, "pong\r\n"
		if r.URL.Path != "/ping" {
			code, body = say(r, content)
		}
		fmt.Fprintf(c, "HTTP/1.1 %d OK\r\nServer: rspamd/3.4\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", code, len(body), body)
	}
}

func honest(_ *http.Request, content []byte) (int, string) {
	if bytes.Contains(content, []byte(enginetest.Bad)) {
		return 200, `{"score": 16.0, "required_score": 15.0, "action": "reject", "symbols": {}}`
	}
	return 200, `{"score": 0.5, "required_score": 15.0, "action": "no action", "symbols": {}}`
}

func client(t *testing.T, network, address string) *rspamd.Client {
	t.Helper()
	return waiting(t, network, address, enginetest.Patience)
}

func waiting(t *testing.T, network, address string, patience time.Duration) *rspamd.Client {
	t.Helper()
	c, err := rspamd.New(rspamd.Config{Network: network, Address: address, Connect: patience, Patience: patience})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSuite(t *testing.T) {
	enginetest.Run(t, enginetest.Maker{
		New: func(t *testing.T, network, address string, patience time.Duration) engine.Engine {
			return waiting(t, network, address, patience)
		},
		Honest: serve(honest),
	})
}

func TestFactsAreTold(t *testing.T) {
	var got http.Header
	var length int64
	c := client(t, "tcp", enginetest.Serve(t, "tcp", serve(func(r *http.Request, b []byte) (int, string) {
		got, length = r.Header, r.ContentLength
		return honest(r, b)
	})))
	v := c.Scan(t.Context(), strings.NewReader("x"), &engine.Facts{MessageID: "01JD", Client: netip.MustParseAddr("::ffff:192.0.2.1"),
		ClientName: "mx.client.example", HELO: "he\r\nlo: x", User: "ann", ReversePath: "", Recipients: []string{"a@acme.example", "b@acme.example"}, Size: 1})
	if v.Outcome != engine.Clean {
		t.Fatalf("%+v", v)
	}
	want := http.Header{"User-Agent": {"qstream"}, "Queue-Id": {"01JD"}, "Ip": {"192.0.2.1"}, "Hostname": {"mx.client.example"}, "Helo": {"he  lo: x"},
		"User": {"ann"}, "From": {"<>"}, "Rcpt": {"<a@acme.example>", "<b@acme.example>"}, "Content-Length": {"1"}, "Connection": {"close"}}
	if diff := cmp.Diff(want, got); diff != "" || length != 1 {
		t.Errorf("length %d, %s", length, diff)
	}
}

func TestAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		code int
		body string
		want engine.Verdict
	}{
		"all of it": {200, `{"is_skipped":false,"score":7.5,"required_score":15,"action":"rewrite subject","subject":"[SPAM] x\r\nBcc: y",
			"symbols":{"B":{"score":1,"options":["o\n"]},"A":{"score":1},"C":{"score":-8}},"messages":{"smtp_message":"go away"},
			"milter":{"add_headers":{"X-Spam":{"value":"Yes","order":1},"X-List":["a",{"value":"b"}],"X-Text":"t"},"remove_headers":{"X-Old":0,"X-Two":[1,2]}}}`,
			engine.Verdict{Outcome: engine.Spam, Advice: engine.Tag, Score: 7.5, Threshold: 15, Detail: "go away",
				Symbols: []engine.Symbol{{Name: "C", Score: -8}, {Name: "A", Score: 1}, {Name: "B", Score: 1, Options: []string{"o"}}},
				Changes: []engine.Change{{Kind: engine.DeleteField, Name: "X-Old"}, {Kind: engine.DeleteField, Index: 1, Name: "X-Two"},
					{Kind: engine.DeleteField, Index: 2, Name: "X-Two"}, {Kind: engine.ReplaceField, Index: 1, Name: "Subject", Value: "[SPAM] x\r\n\tBcc: y"},
					{Name: "X-List", Value: "a"}, {Name: "X-List", Value: "b"}, {Kind: engine.InsertField, Index: 1, Name: "X-Spam", Value: "Yes"},
					{Name: "X-Text", Value: "t"}}}},
		"greylist":         {200, `{"score":4,"required_score":15,"action":"greylist"}`, engine.Verdict{Outcome: engine.Clean, Advice: engine.Defer, Score: 4, Threshold: 15}},
		"discard":          {200, `{"score":4,"action":"discard"}`, engine.Verdict{Outcome: engine.Spam, Advice: engine.Discard, Score: 4}},
		"skipped":          {200, `{"is_skipped":true,"score":0,"action":"no action"}`, engine.Verdict{Outcome: engine.Clean, Detail: "not all rules were asked"}},
		"its error":        {200, `{"error":"no"}`, engine.Verdict{Reason: engine.Trouble, Detail: `rspamd answers 200 "no"`}},
		"a failure":        {500, `oops`, engine.Verdict{Reason: engine.Trouble, Detail: `rspamd answers 500 ""`}},
		"too large":        {413, `{"error":"too big"}`, engine.Verdict{Outcome: engine.Unscannable, Reason: engine.TooLarge, Detail: "too big"}},
		"no score":         {200, `{"action":"no action"}`, engine.Verdict{Reason: engine.Broken, Detail: "the answer of rspamd lacks score or action"}},
		"no action":        {200, `{"score":1}`, engine.Verdict{Reason: engine.Broken, Detail: "the answer of rspamd lacks score or action"}},
		"a strange action": {200, `{"score":1,"action":"dance"}`, engine.Verdict{Reason: engine.Broken, Detail: `rspamd wants "dance"`}},
		"a strange field":  {200, `{"score":1,"action":"reject","milter":{"add_headers":{"X: Y":"z"}}}`, engine.Verdict{Reason: engine.Broken, Detail: `rspamd wants a header changed: no header field: "X: Y"`}},
		"no JSON":          {200, `pong`, engine.Verdict{Reason: engine.Broken, Detail: "the answer of rspamd: invalid character 'p' looking for beginning of value"}},
		"too much":         {200, `{"score":1,"action":"no action","x":"` + strings.Repeat("x", 5<<20) + `"}`, engine.Verdict{Reason: engine.Broken, Detail: "the answer of rspamd is longer than 4194304 bytes"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := client(t, "tcp", enginetest.Serve(t, "tcp", serve(func(*http.Request, []byte) (int, string) { return test.code, test.body })))
			test.want.Engine = "rspamd"
			if diff := cmp.Diff(test.want, enginetest.Ask(t, c, "x")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestAnsweredTooEarly: what rspamd says of half a message isn't believed.
func TestAnsweredTooEarly(t *testing.T) {
	c := client(t, "tcp", enginetest.Serve(t, "tcp", func(c net.Conn) {
		_, _ = c.Read(make([]byte, 100))
		body := `{"score":0,"action":"no action"}`
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		_, _ = c.Read(make([]byte, 100))
	}))
	if v := enginetest.Ask(t, c, strings.Repeat("x", 32<<20)); v.Outcome != engine.Failed {
		t.Errorf("%+v", v)
	}
}

// TestOtherSize: content of another length than was told is not a whole message.
func TestOtherSize(t *testing.T) {
	c := client(t, "tcp", enginetest.Serve(t, "tcp", serve(honest)))
	for _, size := range []int64{5, 500_000} {
		if v := c.Scan(t.Context(), strings.NewReader(strings.Repeat("x", 1000)), enginetest.Facts(size)); v.Outcome != engine.Failed {
			t.Errorf("%d: %+v", size, v)
		}
	}
	small, err := rspamd.New(rspamd.Config{Network: "tcp", Address: "127.0.0.1:1", MaxSize: 10})
	if err != nil {
		t.Fatal(err)
	}
	if v := enginetest.Ask(t, small, "more than that"); v.Outcome != engine.Unscannable {
		t.Errorf("%+v", v)
	}
}

func TestNewRefuses(t *testing.T) {
	for name, cfg := range map[string]rspamd.Config{
		"no network":      {Address: "127.0.0.1:11333"},
		"no address":      {Network: "tcp"},
		"a negative time": {Network: "tcp", Address: "127.0.0.1:11333", Connect: -1},
	} {
		if _, err := rspamd.New(cfg); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(`{"score":7.5,"action":"rewrite subject","subject":"x","symbols":{"B":{"score":1,"options":["o"]}},"milter":{"add_headers":{"X":{"value":"Y","order":1}},"remove_headers":{"Z":[1]}}}`)
	f.Fuzz(func(t *testing.T, body string) {
		c := client(t, "tcp", enginetest.Serve(t, "tcp", serve(func(*http.Request, []byte) (int, string) { return 200, body })))
		v := enginetest.Ask(t, c, "x")
		for _, change := range v.Changes {
			for _, line := range strings.Split(change.Value, "\r\n")[1:] {
				if !strings.HasPrefix(line, "\t") || strings.TrimSpace(line) == "" {
					t.Errorf("%q ends its field", change.Value)
				}
			}
			if strings.ContainsAny(strings.ReplaceAll(change.Value, "\r\n", ""), "\r\n\x00") {
				t.Errorf("%q ends its line", change.Value)
			}
		}
	})
}
