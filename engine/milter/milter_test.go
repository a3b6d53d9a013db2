package milter_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qstream/engine"
	"qstream/engine/enginetest"
	"qstream/engine/milter"
	"qstream/mail"
)

func packet(code byte, data string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(1+len(data)))
	return append(append(b, code), data...)
}

func numbers(ns ...uint32) string {
	var b []byte
	for _, n := range ns {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return string(b)
}

// filter is a scripted one. What it was told is kept, macros as they come.
type filter struct {
	greeting []byte            // to the negotiation; nil: all is wanted
	says     map[byte][]string // packets to each command, in turn, the last again; nothing: continue
	silent   string            // commands that it doesn't answer

	mu    sync.Mutex
	heard []string
}

func (f *filter) serve(c net.Conn) {
	turn := map[byte]int{}
	var body bytes.Buffer
	for {
		var head [5]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return
		}
		data := make([]byte, binary.BigEndian.Uint32(head[:])-1)
		if _, err := io.ReadFull(c, data); err != nil {
			return
		}
		code := head[4]
		f.mu.Lock()
		f.heard = append(f.heard, string(code)+strings.ReplaceAll(string(data[:min(len(data), 100)]), "\x00", "|"))
		f.mu.Unlock()
		answer := packet('c', "")
		switch all := f.says[code]; {
		case code == 'O' && f.greeting != nil:
			answer = f.greeting
		case code == 'O':
			answer = packet('O', numbers(6, 0x31, 0))
		case code == 'D' || code == 'Q' || strings.IndexByte(f.silent, code) >= 0:
			continue
		case len(all) > 0:
			answer = []byte(all[min(turn[code], len(all)-1)])
			turn[code]++
		case code == 'L':
			body.WriteString(strings.Replace(string(data), "\x00", ": ", 1))
		case code == 'E' && strings.Contains(body.String(), enginetest.Bad):
			answer = packet('r', "")
		}
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}

func client(t *testing.T, network, address string) *milter.Client {
	t.Helper()
	return waiting(t, network, address, enginetest.Patience)
}

func waiting(t *testing.T, network, address string, patience time.Duration) *milter.Client {
	t.Helper()
	c, err := milter.New(milter.Config{Network: network, Address: address, Hostname: "mx.acme.example", Connect: patience, Patience: patience})
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
		Honest: func(c net.Conn) { (&filter{}).serve(c) },
	})
}

const sample = "Subject: x\r\n folded\r\nEmpty:\r\nTight:y\r\n\r\nline\r\n.\r\n"

func TestWhatFiltersAreTold(t *testing.T) {
	facts := &engine.Facts{MessageID: "01JD", Client: netip.MustParseAddr("192.0.2.1"), HELO: "he.example", User: "ann",
		ReversePath: "a@client.example", Recipients: []string{"b@acme.example"}}
	told := func(f *filter, content string, facts *engine.Facts) []string {
		c := client(t, "tcp", enginetest.Serve(t, "tcp", f.serve))
		if v := c.Scan(t.Context(), strings.NewReader(content), facts); v.Outcome != engine.Clean {
			t.Errorf("%+v", v)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		return slices.DeleteFunc(f.heard[1:], func(s string) bool { return s == "Q" })
	}
	all := []string{
		"DCj|mx.acme.example|{client_addr}|192.0.2.1|{client_name}|[192.0.2.1]|v|qstream|", "C[192.0.2.1]|4||192.0.2.1|",
		"DH", "Hhe.example|", "DMi|01JD|{mail_addr}|a@client.example|{auth_authen}|ann|", "M<a@client.example>|",
		"DRi|01JD|{rcpt_addr}|b@acme.example|", "R<b@acme.example>|", "DTi|01JD|", "T",
		"LSubject|x\n folded|", "LEmpty||", "LTight|y|", "N", "Bline\r\n.\r\n", "DEi|01JD|", "E",
	}
	if diff := cmp.Diff(all, told(&filter{}, sample, facts)); diff != "" {
		t.Errorf("all: %s", diff)
	}
	// Everything left out, then nothing answered; the leading blank kept.
	out := told(&filter{greeting: packet('O', numbers(6, 0, 0x27f))}, sample, facts)
	if slices.ContainsFunc(out, func(s string) bool { return s[0] != 'D' && s != "E" }) {
		t.Errorf("left out: %q", out)
	}
	quiet := told(&filter{greeting: packet('O', numbers(6, 0, 0xdf080|0x100000)), silent: "CHMRTLNB"}, sample, facts)
	if !slices.Contains(quiet, "LSubject| x\n folded|") || !slices.Contains(quiet, "Bline\r\n.\r\n") {
		t.Errorf("unanswered: %q", quiet)
	}
	old := told(&filter{greeting: packet('O', numbers(2, 0, 0))}, sample, facts)
	if slices.Contains(old, "T") {
		t.Errorf("version 2 is told of DATA: %q", old)
	}
	for content, want := range map[string][]string{
		"":                            {"N"},
		"X: y":                        {"LX|y|", "N"},
		"no field\r\nX: y\r\n":        {"N", "Bno field\r\nX: y\r\n"},
		"X: y\r\nno field\r\n\r\nz":   {"LX|y|", "N", "Bno field\r\n\r\nz"},
		"\r\nbody":                    {"N", "Bbody"},
		"X: a\x00b\r\n\r\n":           {"LX|a b|", "N"},
		"X:\r\n\tlong\r\n\t\r\n\r\nb": {"LX|\n\tlong\n\t|", "N", "Bb"},
	} {
		got := told(&filter{}, content, &engine.Facts{})
		got = slices.DeleteFunc(got, func(s string) bool { return !strings.ContainsRune("LNB", rune(s[0])) })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", content, diff)
		}
	}
}

func TestAnswers(t *testing.T) {
	no := mail.Status{Code: 550, Enhanced: "5.7.1", Text: "no"}
	change := func(code byte, index uint32, name, value string) string {
		return string(packet(code, numbers(index)+name+"\x00"+value+"\x00"))
	}
	add := string(packet('h', "X-A\x00b\x00"))
	cont := string(packet('c', ""))
	for name, test := range map[string]struct {
		says map[byte][]string
		want engine.Verdict
	}{
		"accept at once":    {map[byte][]string{'C': {string(packet('a', ""))}}, engine.Verdict{Outcome: engine.Clean}},
		"reject at helo":    {map[byte][]string{'H': {string(packet('y', "550 5.7.1 no\x00"))}}, engine.Verdict{Outcome: engine.Refused, Advice: engine.Refuse, Status: no, Detail: "550 5.7.1 no"}},
		"discard at data":   {map[byte][]string{'T': {string(packet('d', ""))}}, engine.Verdict{Outcome: engine.Refused, Advice: engine.Discard}},
		"tempfail at end":   {map[byte][]string{'E': {string(packet('t', ""))}}, engine.Verdict{Reason: engine.Trouble, Advice: engine.Defer, Status: mail.Status{Code: 451, Enhanced: "4.7.1", Text: "put off by a filter"}, Detail: "451 4.7.1 put off by a filter"}},
		"lines":             {map[byte][]string{'N': {string(packet('y', "550-5.7.1 50%%\r\n550 5.7.1 no\x00"))}}, engine.Verdict{Outcome: engine.Refused, Advice: engine.Refuse, Status: mail.Status{Code: 550, Enhanced: "5.7.1", Text: "50%\nno"}, Detail: "550 5.7.1 50% no"}},
		"a later 4xx reply": {map[byte][]string{'B': {string(packet('y', "450 4.2.0 wait\x00"))}}, engine.Verdict{Reason: engine.Trouble, Advice: engine.Defer, Status: mail.Status{Code: 450, Enhanced: "4.2.0", Text: "wait"}, Detail: "450 4.2.0 wait"}},
		"a positive reply":  {map[byte][]string{'B': {string(packet('y', "250 fine\x00"))}}, engine.Verdict{Reason: engine.Broken, Detail: `the filter wants the reply "250 fine"`}},
		"skip":              {map[byte][]string{'B': {string(packet('s', ""))}}, engine.Verdict{Outcome: engine.Clean}},
		"progress":          {map[byte][]string{'E': {strings.Repeat(string(packet('p', "")), 50) + cont}}, engine.Verdict{Outcome: engine.Clean}},
		"endless progress":  {map[byte][]string{'E': {strings.Repeat(string(packet('p', "")), 10_000)}}, engine.Verdict{Reason: engine.Late, Detail: "the filter reports progress without end"}},
		"quarantine":        {map[byte][]string{'E': {string(packet('q', "odd\r\n\x00")) + cont}}, engine.Verdict{Outcome: engine.Refused, Advice: engine.Quarantine, Detail: "odd"}},
		"one recipient": {map[byte][]string{'R': {string(packet('y', "550 5.7.1 no\x00")), cont}},
			engine.Verdict{Outcome: engine.Clean, Refusals: []engine.Refusal{{Recipient: 0, Status: no}}}},
		"all recipients": {map[byte][]string{'R': {string(packet('y', "550 5.7.1 no\x00"))}},
			engine.Verdict{Outcome: engine.Refused, Advice: engine.Refuse, Status: no, Detail: "every recipient is refused",
				Refusals: []engine.Refusal{{Recipient: 0, Status: no}, {Recipient: 1, Status: no}}}},
		"changes": {map[byte][]string{'E': {add + change('i', 0, "X-I", "1\n 2") + change('m', 2, "Subject", "z\r\n\r\nBcc: q") + change('m', 1, "X-Old", "") + string(packet('a', ""))}},
			engine.Verdict{Outcome: engine.Clean, Changes: []engine.Change{{Name: "X-A", Value: "b"}, {Kind: engine.InsertField, Name: "X-I", Value: "1\r\n\t2"},
				{Kind: engine.ReplaceField, Index: 2, Name: "Subject", Value: "z\r\n\tBcc: q"}, {Kind: engine.DeleteField, Index: 1, Name: "X-Old"}}}},
		"a bad name":        {map[byte][]string{'E': {string(packet('h', "X Y\x00b\x00"))}}, engine.Verdict{Reason: engine.Broken, Detail: `the filter wants a header changed: no header field: "X Y"`}},
		"no end":            {map[byte][]string{'E': {string(packet('h', "X\x00b"))}}, engine.Verdict{Reason: engine.Broken, Detail: "the filter wants a header change without an end"}},
		"a short change":    {map[byte][]string{'E': {string(packet('m', "X"))}}, engine.Verdict{Reason: engine.Broken, Detail: "the filter wants a header change of 1 bytes"}},
		"another recipient": {map[byte][]string{'E': {string(packet('+', "<c@acme.example>\x00"))}}, engine.Verdict{Reason: engine.Broken, Detail: "the filter says '+'"}},
		"too much":          {map[byte][]string{'E': {"\xff\xff\xff\xffq"}}, engine.Verdict{Reason: engine.Broken, Detail: "the filter's answer has 4294967295 bytes"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := client(t, "tcp", enginetest.Serve(t, "tcp", (&filter{says: test.says}).serve))
			got := enginetest.Ask(t, c, sample)
			if got.Reason == engine.Broken && strings.HasPrefix(got.Detail, "read the filter's answer") {
				t.Errorf("it ended early: %+v", got)
			}
			test.want.Engine = "milter"
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestNegotiation(t *testing.T) {
	for name, greeting := range map[string][]byte{
		"version 1":           packet('O', numbers(1, 0, 0)),
		"version 7":           packet('O', numbers(7, 0, 0)),
		"to change bodies":    packet('O', numbers(6, 2, 0)),
		"to change addresses": packet('O', numbers(6, 0x4c, 0)),
		"a strange step":      packet('O', numbers(6, 0, 0x800000)),
		"half of it":          packet('O', numbers(6, 0)),
		"something else":      packet('c', ""),
	} {
		c := client(t, "tcp", enginetest.Serve(t, "tcp", (&filter{greeting: greeting}).serve))
		if v := enginetest.Ask(t, c, sample); v.Outcome != engine.Failed || v.Reason != engine.Broken {
			t.Errorf("%s: %+v", name, v)
		}
	}
	c := client(t, "tcp", enginetest.Serve(t, "tcp", (&filter{greeting: packet('O', numbers(6, 0x31, 0)+numbers(0)+"j {client_addr}\x00")}).serve))
	if v := enginetest.Ask(t, c, sample); v.Outcome != engine.Clean {
		t.Errorf("with a list of macros: %+v", v)
	}
	long := "X: " + strings.Repeat("x", 100_000) + "\r\n\r\n"
	if v := enginetest.Ask(t, c, long); v.Outcome != engine.Unscannable || v.Reason != engine.TooLarge {
		t.Errorf("a long field: %+v", v)
	}
	folded := "X: " + strings.Repeat("x\r\n ", 50_000) + "\r\n\r\n"
	if v := enginetest.Ask(t, c, folded); v.Outcome != engine.Unscannable || v.Reason != engine.TooLarge {
		t.Errorf("a folded field: %+v", v)
	}
	for name, cfg := range map[string]milter.Config{"no network": {Address: "x:1"}, "no address": {Network: "tcp"}, "a negative time": {Network: "tcp", Address: "x:1", Patience: -1}} {
		if _, err := milter.New(cfg); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func FuzzFilter(f *testing.F) {
	f.Add("X: y\r\n z\r\n\r\nbody", string(packet('h', "X\x00y\x00"))+string(packet('c', "")))
	f.Add("\r\n", string(packet('y', "550-5.7.1 a\r\n550 5.7.1 b\x00")))
	f.Fuzz(func(t *testing.T, content, end string) {
		c := client(t, "tcp", enginetest.Serve(t, "tcp", (&filter{says: map[byte][]string{'E': {end + string(packet('t', ""))}}}).serve))
		v := enginetest.Ask(t, c, content)
		if len(v.Detail) > engine.MaxText || v.Outcome == engine.Clean && end == "" {
			t.Errorf("%+v", v)
		}
		for _, change := range v.Changes {
			if strings.ContainsAny(strings.ReplaceAll(change.Value, "\r\n\t", ""), "\r\n\x00") {
				t.Errorf("%q is more than a field", change.Value)
			}
		}
	})
}
