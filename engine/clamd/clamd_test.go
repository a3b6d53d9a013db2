package clamd_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qstream/engine"
	"qstream/engine/clamd"
	"qstream/engine/enginetest"
)

// fake speaks clamd's sessions: say makes the reply to a message.
type fake struct {
	version string
	say     func(content []byte) string
	limit   int          // of a message; 0: none
	conns   atomic.Int32 // connections so far
	idle    time.Duration
}

func (f *fake) serve(c net.Conn) {
	f.conns.Add(1)
	in := bufio.NewReader(c)
	session := false
	for n := 0; ; {
		if f.idle > 0 {
			_ = c.SetReadDeadline(time.Now().Add(f.idle))
		}
		command, err := in.ReadString(0)
		if err != nil {
			return
		}
		if command == "zIDSESSION\x00" {
			session = true
			continue
		}
		if !session {
			return
		}
		n++
		switch command {
		case "zVERSION\x00":
			fmt.Fprintf(c, "%d: %s\x00", n, f.version)
		case "zINSTREAM\x00":
			content, whole := f.read(in)
			if !whole {
				_, _ = io.WriteString(c, "INSTREAM size limit exceeded. ERROR\x00")
				return
			}
			fmt.Fprintf(c, "%d: %s\x00", n, f.say(content))
		default:
			return
		}
	}
}

func (f *fake) read(in *bufio.Reader) (content []byte, whole bool) {
	for {
		var size uint32
		if err := binary.Read(in, binary.BigEndian, &size); err != nil {
			return nil, false
		}
		if size == 0 {
			return content, true
		}
		if f.limit > 0 && len(content)+int(size) > f.limit {
			return nil, false
		}
		chunk := make([]byte, size)
		if _, err := io.ReadFull(in, chunk); err != nil {
			return nil, false
		}
		content = append(content, chunk...)
	}
}

func honest() *fake {
	return &fake{version: "ClamAV 1.4.6/27123/Wed Nov 18 09:31:11 2026", say: func(content []byte) string {
		if bytes.Contains(content, []byte(enginetest.Bad)) {
			return "stream: Test.Bad.UNOFFICIAL FOUND"
		}
		return "stream: OK"
	}}
}

func client(t *testing.T, network, address string) *clamd.Client {
	t.Helper()
	return waiting(t, network, address, enginetest.Patience)
}

func waiting(t *testing.T, network, address string, patience time.Duration) *clamd.Client {
	t.Helper()
	c, err := clamd.New(clamd.Config{Network: network, Address: address, Connect: patience, Patience: patience, Idle: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestSuite(t *testing.T) {
	enginetest.Run(t, enginetest.Maker{
		New: func(t *testing.T, network, address string, patience time.Duration) engine.Engine {
			return waiting(t, network, address, patience)
		},
		Honest: honest().serve,
	})
}

// The same when parts are looked at by themselves.
func TestSuiteWithParts(t *testing.T) {
	enginetest.Run(t, enginetest.Maker{
		New: func(t *testing.T, network, address string, patience time.Duration) engine.Engine {
			return byParts(t, network, address, patience)
		},
		Honest: honest().serve,
	})
}

func byParts(t *testing.T, network, address string, patience time.Duration) *clamd.Client {
	t.Helper()
	c, err := clamd.New(clamd.Config{
		Network: network, Address: address, Connect: patience, Patience: patience, Idle: 2, Parts: true, Dir: t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Parts come decoded, each as a message of its own; what stands in the message
// as it is comes with it alone. The gravest word counts.
func TestParts(t *testing.T) {
	mail := func(parts ...string) string {
		text := "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
		for _, p := range parts {
			text += "--b\r\n" + p + "\r\n"
		}
		return text + "--b--\r\n"
	}
	text := "Content-Type: text/plain\r\n\r\ntext"
	coded := func(s string) string {
		return "Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.StdEncoding.EncodeToString([]byte(s))
	}
	quoted := "Content-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=61=62"
	inner := "Content-Type: message/rfc822\r\n\r\n" + mail(coded("deep"))
	for name, test := range map[string]struct {
		mail  string
		bad   string // what clamd finds, or fails at
		says  string
		parts []string // that clamd was given before it had all of the message
		want  engine.Outcome
	}{
		"no parts":        {"Subject: x\r\n\r\ntext\r\n", "none", "", nil, engine.Clean},
		"all clean":       {mail(text, coded("one"), quoted, inner), "none", "", []string{"one", "ab\r\n", "deep"}, engine.Clean},
		"one is bad":      {mail(text, coded("one"), coded("two"), coded("three")), "two", "stream: X FOUND", []string{"one", "two"}, engine.Malware},
		"one has no room": {mail(coded("one"), coded("two")), "one", "stream: Can't write to file ERROR", []string{"one"}, engine.Failed},
		"one is locked":   {mail(coded("one"), coded("two")), "one", "stream: Heuristics.Encrypted.Zip FOUND", []string{"one", "two"}, engine.Encrypted},
		"uuencoded":       {"Subject: x\r\n\r\nbegin 644 x\r\n#86)C\r\n`\r\nend\r\n", "none", "", []string{"abc"}, engine.Clean},
		"too deep":        {strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 100) + "x", "none", "", nil, engine.Unscannable},
	} {
		t.Run(name, func(t *testing.T) {
			f := honest()
			var mu sync.Mutex
			var got []string
			f.say = func(content []byte) string {
				mu.Lock()
				defer mu.Unlock()
				if string(content) != test.mail {
					got = append(got, string(content))
				}
				if string(content) == test.bad {
					return test.says
				}
				return "stream: OK"
			}
			c := byParts(t, "tcp", enginetest.Serve(t, "tcp", f.serve), enginetest.Patience)
			if v := enginetest.Ask(t, c, test.mail); v.Outcome != test.want {
				t.Errorf("%+v", v)
			}
			mu.Lock()
			defer mu.Unlock()
			if d := cmp.Diff(test.parts, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestReplies(t *testing.T) {
	for reply, want := range map[string]engine.Verdict{
		"stream: OK":                               {Outcome: engine.Clean},
		"stream: Win.Test.EICAR_HDB-1 FOUND":       {Outcome: engine.Malware, Name: "Win.Test.EICAR_HDB-1"},
		"stream: a FOUND b FOUND":                  {Outcome: engine.Malware, Name: "a FOUND b"},
		"stream: \x1b[2Jx FOUND":                   {Outcome: engine.Malware, Name: "[2Jx"},
		"stream: Heuristics.Encrypted.Zip FOUND":   {Outcome: engine.Encrypted, Reason: engine.Archive, Name: "Heuristics.Encrypted.Zip"},
		"stream: OK FOUND":                         {Outcome: engine.Malware, Name: "OK"},
		"Time limit reached ERROR":                 {Outcome: engine.Unscannable, Reason: engine.TooLong, Detail: "Time limit reached"},
		"Error writing to temporary file ERROR":    {Reason: engine.Trouble, Detail: `clamd reports "Error writing to temporary file"`},
		"COMMAND READ TIMED OUT":                   {Reason: engine.Broken, Detail: `clamd says "COMMAND READ TIMED OUT"`},
		"":                                         {Reason: engine.Broken, Detail: `clamd says ""`},
		"stream:  FOUND":                           {Reason: engine.Broken, Detail: `clamd says "stream:  FOUND"`},
		"stream: OK\r":                             {Reason: engine.Broken, Detail: `clamd says "stream: OK"`},
		"stream: " + strings.Repeat("x", 10_000):   {Reason: engine.Broken, Detail: "reply of clamd is longer than 4096 bytes"},
		"stream: OK\x003: stream: OK":              {Reason: engine.Broken, Detail: "clamd says more than was asked"},
		"stream: Heuristics.Limits.Exceeded FOUND": {Outcome: engine.Unscannable, Reason: engine.TooLarge, Name: "Heuristics.Limits.Exceeded"},
		"stream: Heuristics.Limits.Exceeded.MaxRecursion FOUND": {
			Outcome: engine.Unscannable, Reason: engine.TooDeep, Name: "Heuristics.Limits.Exceeded.MaxRecursion"},
		"stream: Heuristics.Limits.Exceeded.MaxFiles FOUND": {
			Outcome: engine.Unscannable, Reason: engine.TooMany, Name: "Heuristics.Limits.Exceeded.MaxFiles"},
	} {
		f := honest()
		f.version, f.say = "ClamAV 1.4.6", func([]byte) string { return reply }
		c := client(t, "tcp", enginetest.Serve(t, "tcp", f.serve))
		want.Engine = "clamd"
		if diff := cmp.Diff(want, enginetest.Ask(t, c, "x")); diff != "" {
			t.Errorf("%q: %s", reply, diff)
		}
	}
}

func TestSessionsAreUsedAgain(t *testing.T) {
	f := honest()
	c := client(t, "tcp", enginetest.Serve(t, "tcp", f.serve))
	for range 20 {
		if v := enginetest.Ask(t, c, "x"); v.Outcome != engine.Clean || v.Signatures != "27123" {
			t.Fatalf("%+v", v)
		}
	}
	if n := f.conns.Load(); n != 1 {
		t.Errorf("%d connections for 20 scans in a row", n)
	}
}

// TestSessionsThatClamdEnded: the next scan notices before it reads content.
func TestSessionsThatClamdEnded(t *testing.T) {
	f := honest()
	f.idle = 20 * time.Millisecond
	c := client(t, "tcp", enginetest.Serve(t, "tcp", f.serve))
	for range 3 {
		if v := enginetest.Ask(t, c, "x"); v.Outcome != engine.Clean {
			t.Fatalf("%+v", v)
		}
		time.Sleep(3 * f.idle)
	}
	if n := f.conns.Load(); n != 3 {
		t.Errorf("%d connections", n)
	}
}

func TestTooLarge(t *testing.T) {
	f := honest()
	f.limit = 1 << 20
	for _, network := range []string{"tcp", "unix"} {
		c := client(t, network, enginetest.Serve(t, network, f.serve))
		v := enginetest.Ask(t, c, strings.Repeat("x", 8<<20))
		// The reply may be lost with the connection.
		if v.Outcome != engine.Unscannable && (v.Outcome != engine.Failed || v.Reason != engine.Broken) {
			t.Errorf("%s: %+v", network, v)
		}
	}
	c, err := clamd.New(clamd.Config{Network: "tcp", Address: "127.0.0.1:1", MaxSize: 10})
	if err != nil {
		t.Fatal(err)
	}
	if v := enginetest.Ask(t, c, "more than that"); v.Outcome != engine.Unscannable || v.Reason != engine.TooLarge {
		t.Errorf("by its size: %+v", v)
	}
}

// TestHasty: a verdict that comes before the end of the message is none.
func TestHasty(t *testing.T) {
	for name, ask := range map[string]func(*testing.T, string, string, time.Duration) *clamd.Client{"whole": waiting, "by parts": byParts} {
		t.Run(name, func(t *testing.T) {
			said := make(chan struct{})
			f := honest()
			c := ask(t, "tcp", enginetest.Serve(t, "tcp", func(c net.Conn) {
				in := bufio.NewReader(c)
				for range 2 { // IDSESSION, VERSION
					_, _ = in.ReadString(0)
				}
				fmt.Fprintf(c, "1: %s\x00", f.version)
				_, _ = in.ReadString(0)
				_, _ = io.WriteString(c, "2: stream: OK\x00")
				close(said)
				_, _ = f.read(in)
			}), enginetest.Patience)
			v := c.Scan(t.Context(), io.MultiReader(strings.NewReader("Subject: x\r\n\r\n"), after(said)), enginetest.Facts(0))
			if v.Outcome != engine.Failed || v.Reason != engine.Broken {
				t.Errorf("%+v", v)
			}
		})
	}
}

// after is content that comes when it is time.
type after chan struct{}

func (a after) Read(p []byte) (int, error) {
	<-a
	return 0, io.EOF
}

func TestState(t *testing.T) {
	f := honest()
	c := client(t, "tcp", enginetest.Serve(t, "tcp", f.serve))
	got, err := c.State(t.Context())
	want := engine.State{Software: "ClamAV 1.4.6", Signatures: "27123", Built: time.Date(2026, 11, 18, 9, 31, 11, 0, time.UTC)}
	if err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	for version, ok := range map[string]bool{"ClamAV 1.4.6": true, "ClamAV 1.4.6/x": true, "ERROR": false, "Postfix": false, "UNKNOWN COMMAND": false} {
		f := honest()
		f.version = version
		c := client(t, "tcp", enginetest.Serve(t, "tcp", f.serve))
		if got, err := c.State(t.Context()); (err == nil) != ok {
			t.Errorf("%q: %+v, %v", version, got, err)
		}
		if v := enginetest.Ask(t, c, "x"); (v.Outcome == engine.Clean) != ok {
			t.Errorf("%q: %+v", version, v)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for name, cfg := range map[string]clamd.Config{
		"no network":        {Address: "127.0.0.1:3310"},
		"a strange network": {Network: "udp", Address: "127.0.0.1:3310"},
		"no address":        {Network: "unix"},
		"a negative time":   {Network: "unix", Address: "/s", Patience: -1},
	} {
		if _, err := clamd.New(cfg); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func FuzzReply(f *testing.F) {
	f.Add("1: ClamAV 1.4.6/27123/x\x002: stream: OK\x00")
	f.Add("1: ClamAV 1.4.6\x002: stream: X FOUND\x00")
	f.Add("1: ClamAV 1.4.6\x00INSTREAM size limit exceeded. ERROR\x00")
	f.Fuzz(func(t *testing.T, said string) {
		c := client(t, "tcp", enginetest.Serve(t, "tcp", func(c net.Conn) {
			_, _ = io.WriteString(c, said)
			_ = c.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, c)
		}))
		v := enginetest.Ask(t, c, "x")
		if v.Outcome == engine.Clean && !strings.Contains(said, "stream: OK\x00") {
			t.Errorf("%q: %+v", said, v)
		}
		if len(v.Name) > engine.MaxText || len(v.Detail) > engine.MaxText {
			t.Errorf("long texts: %+v", v)
		}
	})
}
