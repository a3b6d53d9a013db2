package httpd

import (
	"bytes"
	"encoding/json"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	netmail "net/mail"
	"strings"
	"testing"
)

// made is what becomes of a description.
func made(t *testing.T, text string) (submission, string) {
	t.Helper()
	var m jsonMessage
	if err := strict(strings.NewReader(text), &m); err != nil {
		t.Fatal(err)
	}
	s := m.submission()
	if s.fault != nil {
		t.Fatal(s.fault)
	}
	content, err := io.ReadAll(s.content)
	if err != nil {
		t.Fatal(err)
	}
	return s, string(content)
}

// leaves are the content types of a message's parts, with their content.
func leaves(t *testing.T, kind string, body io.Reader) (all []string) {
	t.Helper()
	name, params, err := mime.ParseMediaType(kind)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(name, "multipart/") {
		text, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		return []string{name + " " + strings.TrimSpace(string(text))}
	}
	all = []string{name}
	for r := multipart.NewReader(body, params["boundary"]); ; {
		p, err := r.NextPart()
		if err == io.EOF {
			return append(all, "end")
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, leaves(t, p.Header.Get("Content-Type"), p)...)
	}
}

func TestCompose(t *testing.T) {
	for name, tt := range map[string]struct{ keys, want string }{
		"text":        {`"text":"hello\n"`, "text/plain hello"},
		"nothing":     {`"subject":"x"`, "text/plain "},
		"HTML":        {`"html":"<p>"`, "text/html <p>"},
		"both":        {`"text":"hello","html":"<p>"`, "multipart/alternative text/plain hello text/html <p> end"},
		"attachment":  {`"text":"hello","attachments":[{"content":"YQ=="}]`, "multipart/mixed text/plain hello application/octet-stream YQ== end"},
		"picture":     {`"html":"<p>","attachments":[{"content":"YQ==","content_type":"image/png","content_id":"a@b"}]`, "multipart/related text/html <p> image/png YQ== end"},
		"all of them": {`"text":"hello","html":"<p>","attachments":[{"content":"YQ==","content_type":"image/png","content_id":"a@b"},{"content":"Yg=="}]`, "multipart/mixed multipart/alternative text/plain hello multipart/related text/html <p> image/png YQ== end end application/octet-stream Yg== end"},
	} {
		_, text := made(t, `{"message":{"from":"a@x.example","to":"b@x.example",`+tt.keys+`}}`)
		m, err := netmail.ReadMessage(strings.NewReader(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := strings.Join(leaves(t, m.Header.Get("Content-Type"), m.Body), " "); got != tt.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestComposeHeader(t *testing.T) {
	s, text := made(t, `{"envelope":{"env_id":"e"},"message":{
		"from":"Änn <ann@x.example>","sender":"s@x.example","reply_to":"r@x.example","to":["b@x.example","\"C, D\" <c@x.example>"],"cc":"b@x.example","bcc":["e@x.example"],
		"subject":"`+strings.Repeat("Grüße ", 30)+`","headers":{"X-One":"`+strings.Repeat("word ", 40)+`","List-Id":"<l.x.example>"},"text":"ü\n.\n"}}`)
	if s.from != "s@x.example" || len(s.to) != 3 || s.to[2].Address != "e@x.example" || s.envID != "e" {
		t.Errorf("%+v", s)
	}
	m, err := netmail.ReadMessage(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	word := new(mime.WordDecoder)
	subject, err := word.DecodeHeader(m.Header.Get("Subject"))
	if err != nil || strings.TrimSpace(subject) != strings.TrimSpace(strings.Repeat("Grüße ", 30)) {
		t.Errorf("%q %v", subject, err)
	}
	to, err := m.Header.AddressList("To")
	if err != nil || len(to) != 2 || to[1].Name != "C, D" {
		t.Errorf("%v %v", to, err)
	}
	if from, err := m.Header.AddressList("From"); err != nil || from[0].Name != "Änn" {
		t.Errorf("%v %v", from, err)
	}
	if m.Header.Get("Bcc") != "" || strings.Contains(text, "e@x.example") {
		t.Error("Bcc goes on")
	}
	if body, err := io.ReadAll(quotedprintable.NewReader(m.Body)); err != nil || string(body) != "ü\r\n.\r\n" {
		t.Errorf("%q %v", body, err)
	}
	for line := range strings.SplitSeq(text, "\r\n") {
		if len(line) > 90 { // a field's name, and an encoded word
			t.Errorf("long line %q", line)
		}
	}
}

// Values that would become other fields, or that can't be written, are refused.
func TestComposeRefuses(t *testing.T) {
	for name, keys := range map[string]string{
		"subject":           `"subject":"x\r\nBcc: eve@x.example"`,
		"subject, LF":       `"subject":"x\ny"`,
		"subject, NUL":      `"subject":"x\u0000"`,
		"header":            `"headers":{"X-A":"x\r\n\r\nbody"}`,
		"header's name":     `"headers":{"X-A: y\r\nX-B":"x"}`,
		"no name":           `"headers":{"":"x"}`,
		"our field":         `"headers":{"Bcc":"eve@x.example"}`,
		"the body's field":  `"headers":{"content-type":"text/html"}`,
		"a trace field":     `"headers":{"Received":"x"}`,
		"resent":            `"headers":{"Resent-To":"x@x.example"}`,
		"long word":         `"headers":{"X-A":"` + strings.Repeat("x", 1000) + `"}`,
		"address":           `"cc":"x\r\n@x.example"`,
		"name":              `"cc":"\"a\r\nb\" <x@x.example>"`,
		"two addresses":     `"cc":"a@x.example, b@x.example"`,
		"content type":      `"attachments":[{"content_type":"text/plain\r\nX: y"}]`,
		"nested message":    `"attachments":[{"content_type":"message/rfc822"}]`,
		"nested multipart":  `"attachments":[{"content_type":"multipart/mixed"}]`,
		"content id":        `"attachments":[{"content_id":"a>\r\nX: y"}]`,
		"file name":         `"attachments":[{"filename":"` + strings.Repeat("ü", 500) + `"}]`,
		"file name, CRLF":   `"attachments":[{"filename":"a\r\nX: y"}]`,
		"type's parameter":  `"attachments":[{"content_type":"text/plain; name*=utf-8''a%0d%0aX"}]`,
		"author's addition": `"sender":"a@x.example\u0000"`,
	} {
		var m jsonMessage
		if err := strict(strings.NewReader(`{"message":{"from":"a@x.example","to":"b@x.example",`+keys+`}}`), &m); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if s := m.submission(); s.fault == nil || s.fault.Status != 422 {
			text, _ := io.ReadAll(s.content)
			t.Errorf("%s: %q", name, text)
		}
	}
}

// Whatever JSON says: a message that is made of it has one header, in which
// only the fields stand that it was meant to have, and lines end in CRLF.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{
		`{"message":{"from":"a@x.example","to":"b@x.example","subject":"x","text":"y","headers":{"X-A":"z"}}}`,
		`{"message":{"from":"Ä <a@x.example>","to":["b@x.example"],"html":"<p>","attachments":[{"filename":"ü.png","content_type":"image/png","content_id":"i","content":"YQ=="}]}}`,
		`{"envelope":{"from":"","to":["b@x.example",{"address":"c@x.example","notify":["never"],"orcpt":"d@x.example"}],"ret":"hdrs"},"raw":"To: x\n\ny"}`,
		`{"raw_base64":"VG86IGFAeC5leGFtcGxlCgp4"}`, `{"messages":[{"raw":"x"}]}`, `[`, `null`,
	} {
		f.Add([]byte(seed))
	}
	allowed := map[string]bool{}
	for _, name := range ours {
		allowed[name] = true
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var req jsonRequest
		if strict(bytes.NewReader(text), &req) != nil {
			return
		}
		s := req.submission()
		if s.fault != nil || req.Message == nil {
			return
		}
		content, err := io.ReadAll(s.content)
		if err != nil {
			t.Fatal(err)
		}
		head, _, ok := bytes.Cut(content, []byte("\r\n\r\n"))
		if !ok || bytes.Count(content, []byte("\n")) != bytes.Count(content, []byte("\r\n")) {
			t.Fatalf("lines of %q", content)
		}
		for line := range bytes.SplitSeq(head, []byte("\r\n")) {
			if len(line) > 0 && line[0] == ' ' {
				continue
			}
			name, _, ok := strings.Cut(string(line), ":")
			lower := strings.ToLower(name)
			_, custom := req.Message.Headers[name]
			if !ok || !custom && !allowed[lower] && !strings.HasPrefix(lower, "content-") {
				t.Fatalf("field %q in %q of %q", name, head, text)
			}
		}
		if _, err := json.Marshal(s.to); err != nil {
			t.Fatal(err)
		}
	})
}

// Whatever a message as it is says: what goes on names nobody by Bcc.
func FuzzHeader(f *testing.F) {
	f.Add([]byte("From: a@x.example\nTo: b@x.example\nBcc: c@x.example\n\nx"))
	f.Add([]byte("From x\nSender: \"a\" <a@x.example>\r\nBCC :\n c@x.example\n\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var m submission
		if m.fromHeader(bytes.NewReader(text), false) != nil {
			return
		}
		content, err := io.ReadAll(m.content)
		if err != nil {
			t.Fatal(err)
		}
		head, _, _ := bytes.Cut(content, []byte("\n\n"))
		for line := range bytes.SplitSeq(head, []byte("\n")) {
			name, _, ok := bytes.Cut(line, []byte(":"))
			if ok && strings.EqualFold(strings.TrimSpace(string(name)), "bcc") && line[0] != ' ' && line[0] != '\t' {
				t.Fatalf("%q of %q", head, text)
			}
		}
		for _, r := range m.to {
			if strings.ContainsAny(r.Address, "\r\n\x00") {
				t.Fatalf("recipient %q", r.Address)
			}
		}
	})
}
