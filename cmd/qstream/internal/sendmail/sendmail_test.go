package sendmail

import (
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestParse(t *testing.T) {
	text := func(s string) *string { return &s }
	for args, want := range map[string]Request{
		"a@x":                              {Recipients: []string{"a@x"}},
		"-t":                               {FromHeader: true},
		"-ti":                              {FromHeader: true, WholeInput: true},
		"-t -i":                            {FromHeader: true, WholeInput: true},
		"-oi a@x b@x":                      {WholeInput: true, Recipients: []string{"a@x", "b@x"}},
		"-fme@x a@x":                       {ReversePath: text("me@x"), Recipients: []string{"a@x"}},
		"-f me@x -- -a@x":                  {ReversePath: text("me@x"), Recipients: []string{"-a@x"}},
		"-f <> a@x":                        {ReversePath: text(""), Recipients: []string{"a@x"}},
		"-r me@x -F Me a@x":                {ReversePath: text("me@x"), FullName: "Me", Recipients: []string{"a@x"}},
		"-oem -odb -oMrSMTP -bm a@x":       {Recipients: []string{"a@x"}},
		"-v -n -U -G -B 8BITMIME -tifme@x": {FromHeader: true, WholeInput: true, ReversePath: text("me@x")},
		"-O Timeout=1m -N never -R hdrs -V id -L tag -h 3 -C /x a@x": {Recipients: []string{"a@x"}},
		"-bs":             {Mode: Serve},
		"-bp":             {Mode: List},
		"-bi":             {Mode: Nothing},
		"-q":              {Mode: Nothing},
		"-q30m":           {Mode: Nothing},
		"-d -oi -bm -- a": {WholeInput: true, Recipients: []string{"a"}},
	} {
		got, err := Parse(strings.Fields(args))
		same := got.Mode == want.Mode && got.FullName == want.FullName && got.FromHeader == want.FromHeader &&
			got.WholeInput == want.WholeInput && slices.Equal(got.Recipients, want.Recipients) &&
			(got.ReversePath == nil) == (want.ReversePath == nil) && (got.ReversePath == nil || *got.ReversePath == *want.ReversePath)
		if err != nil || !same {
			t.Errorf("%s: %+v, %v", args, got, err)
		}
	}
	for args, says := range map[string]string{
		"":         "no recipients",
		"-i":       "no recipients",
		"-f":       "wants a value",
		"-bd":      "qstream up",
		"-bv a@x":  "qstream explain",
		"-Z a@x":   "no option -Z",
		"-X f a@x": "-X",
	} {
		if _, err := Parse(strings.Fields(args)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", args, err)
		}
	}
}

var someone = Identity{User: "joe", Host: "here.example", FullName: "Joe O. \"J\" User", Now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}

func TestCompose(t *testing.T) {
	const added = "From: \"Joe O. \\\"J\\\" User\" <joe@here.example>\nDate: Fri, 02 Jan 2026 03:04:05 +0000\nMessage-ID: <ID@here.example>\n"
	for name, test := range map[string]struct {
		args, in, want, from, to string
	}{
		"complete": {"a@x.example", "From: j@x.example\nDate: now\nMessage-ID: <1@x>\nSubject: s\n\nhello\n",
			"From: j@x.example\nDate: now\nMessage-ID: <1@x>\nSubject: s\n\nhello\n", "joe@here.example", "a@x.example"},
		"no header":   {"a@x.example", "hello, you\nthere\n", added + "\nhello, you\nthere\n", "joe@here.example", "a@x.example"},
		"no body":     {"a@x.example", "Subject: s\n", "Subject: s\n" + added + "\n", "joe@here.example", "a@x.example"},
		"nothing":     {"a@x.example", "", added + "\n", "joe@here.example", "a@x.example"},
		"no line end": {"a@x.example", "Subject: s\n\nhello", "Subject: s\n" + added + "\nhello", "joe@here.example", "a@x.example"},
		"of the header": {"-t b@y.example", "To: A <a@x.example>,\n root\nCc: b@y.example\nBcc: c@z.example\nSubject: s\n\nx\n",
			"To: A <a@x.example>,\n root\nCc: b@y.example\nSubject: s\n" + added + "\nx\n", "joe@here.example", "b@y.example a@x.example root@here.example c@z.example"},
		"sent again": {"-t", "Resent-To: d@x.example\nTo: a@x.example\nBcc: c@x.example\n\nx\n",
			"Resent-To: d@x.example\nTo: a@x.example\n" + added + "\nx\n", "joe@here.example", "d@x.example"},
		"a dot ends it":  {"a@x.example", "Subject: s\n\none\n.\ntwo\n", "Subject: s\n" + added + "\none\n", "joe@here.example", "a@x.example"},
		"a dot does not": {"-i a@x.example", "Subject: s\n\none\n.\ntwo\n", "Subject: s\n" + added + "\none\n.\ntwo\n", "joe@here.example", "a@x.example"},
		"dots in lines":  {"a@x.example", "\n..\n.x\n. \nx.\n", added + "\n..\n.x\n. \nx.\n", "joe@here.example", "a@x.example"},
		"null sender": {"-f <> -F Robot a@x.example", "Subject: s\n\n", "Subject: s\nFrom: Robot <joe@here.example>\n" +
			strings.SplitN(added, "\n", 2)[1] + "\n", "", "a@x.example"},
		"sender":       {"-f me a@x.example", "From: j@x\nDate: d\nMessage-Id: m\n\n", "From: j@x\nDate: d\nMessage-Id: m\n\n", "me@here.example", "a@x.example"},
		"mailbox line": {"a@x.example", "From joe Fri Jan 2\nSubject: s\n\nx\n", "Subject: s\n" + added + "\nx\n", "joe@here.example", "a@x.example"},
		"return path":  {"a@x.example", "Return-Path: <j@x>\nSubject: s\n\nx\n", "Subject: s\n" + added + "\nx\n", "joe@here.example", "a@x.example"},
		"CRLF":         {"a@x.example", "Subject: s\r\n\r\nx\r\n", "Subject: s\n" + added + "\nx\r\n", "joe@here.example", "a@x.example"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := Parse(strings.Fields(test.args))
			if err != nil {
				t.Fatal(err)
			}
			m, err := r.Compose(iotest.OneByteReader(strings.NewReader(test.in)), someone)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(m.Content)
			if err != nil {
				t.Fatal(err)
			}
			got := string(text)
			if _, after, ok := strings.Cut(got, "Message-ID: <"); ok && !strings.Contains(test.in, "Message-ID") {
				id, _, _ := strings.Cut(after, "@")
				got = strings.Replace(got, id, "ID", 1)
			}
			if got != test.want || m.ReversePath != test.from || strings.Join(m.Recipients, " ") != test.to {
				t.Errorf("from %q to %q\n%s\nwant\n%s", m.ReversePath, m.Recipients, got, test.want)
			}
		})
	}
}

func TestComposeRefuses(t *testing.T) {
	for name, test := range map[string]struct{ args, in string }{
		"nobody":        {"-t", "Subject: s\n\nx\n"},
		"bad recipient": {"-t", "To: a@@x\n\nx\n"},
		"bad sender":    {"-f a@@x b@x.example", "\n"},
		"long header":   {"a@x.example", "Subject: s\nX: " + strings.Repeat("x", maxHeader) + "\n\n"},
	} {
		r, err := Parse(strings.Fields(test.args))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Compose(strings.NewReader(test.in), someone); !BadData(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := Request{Recipients: []string{"a@x.example"}}
	if _, err := r.Compose(iotest.ErrReader(io.ErrClosedPipe), someone); err == nil || BadData(err) {
		t.Errorf("input that fails: %v", err)
	}
}

// What is no ASCII is encoded in a name (RFC 2047).
func TestPhrase(t *testing.T) {
	for name, want := range map[string]string{"Joe User": "Joe User", "J. User": `"J. User"`, "J\u00f6": "=?utf-8?q?J=C3=B6?="} {
		if got := phrase(name); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
}
