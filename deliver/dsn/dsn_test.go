package dsn

import (
	"bufio"
	"bytes"
	"flag"
	"io"
	"mime"
	"mime/multipart"
	netmail "net/mail"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qstream/mail"
)

var update = flag.Bool("update", false, "write the golden files")

var at = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

const header = "From: alice@client.example\r\nTo: bob@acme.example\r\nSubject: hello\r\n\r\n"

func sample(kind Kind) Report {
	return Report{
		ID: ID("01KAREPORTEDMESSAGE0000000", 1, 2, kind, at), Kind: kind, At: at, Me: "mx.hub.example",
		To: "alice@client.example", EnvID: "QQ314159", Arrived: at.Add(-5 * time.Hour), Expires: at.Add(43 * time.Hour),
		MessageID: "01KAREPORTEDMESSAGE0000000", ReversePath: "alice@client.example", References: "<m1@client.example>",
		Recipients: []Recipient{
			{Address: "bob@acme.example", Original: "rfc822;Bob@acme.example", Remote: "mx1.acme.example", Attempted: at,
				Status: mail.Status{Code: 550, Enhanced: "5.1.1", Text: "no such user\nask postmaster"}},
			{Address: "carol@acme.example", Status: mail.Status{Code: 452, Enhanced: "4.2.2", Text: "mailbox full"}, Expired: true, Remote: "mx1.acme.example"},
		},
		Original: Original{Data: []byte(header)},
	}
}

func TestGolden(t *testing.T) {
	international := sample(Failed)
	international.UTF8 = true
	international.To = "älice@client.example"
	international.Recipients[0].Address = "böb@acme.example"
	international.Recipients[0].Status.Text = "Benutzer gibt's nicht: böb"
	ascii := international
	ascii.UTF8 = false
	full := sample(Failed)
	full.Original = Original{Data: []byte(header + "body\r\n"), Full: true}
	double := sample(Failed)
	double.Double, double.To, double.ReversePath = true, "postmaster@hub.example", ""
	delayed := sample(Delayed)
	delayed.Recipients = delayed.Recipients[1:]
	delayed.Recipients[0].Expired = false
	relayed := sample(Relayed)
	relayed.Recipients = []Recipient{{Address: "bob@acme.example", Remote: "mx1.acme.example", Status: mail.Status{Code: 250, Enhanced: "2.0.0", Text: "ok"}}}
	for name, got := range map[string][]byte{
		"failed": Build(sample(Failed)), "failed-full": Build(full), "failed-utf8": Build(international), "failed-8bit": Build(ascii),
		"double": Build(double), "delayed": Build(delayed), "relayed": Build(relayed), "qsbmf": QSBMF(full),
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join("testdata", name+".eml")
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(want), string(got)); d != "" {
				t.Error(d)
			}
		})
	}
}

// parsed is a report as a program reads it.
type parsed struct {
	header     netmail.Header
	types      []string
	text       string
	message    textproto.MIMEHeader
	recipients []textproto.MIMEHeader
	original   string
}

func parse(t testing.TB, report []byte) parsed {
	t.Helper()
	m, err := netmail.ReadMessage(bytes.NewReader(report))
	if err != nil {
		t.Fatalf("read the report: %v", err)
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" {
		t.Fatalf("content type %q: %v", kind, err)
	}
	p := parsed{header: m.Header}
	mr := multipart.NewReader(m.Body, params["boundary"])
	for {
		part, err := mr.NextPart()
		if err == io.EOF {
			return p
		}
		if err != nil {
			t.Fatalf("next part: %v", err)
		}
		body, err := io.ReadAll(part)
		if err != nil {
			t.Fatalf("read part: %v", err)
		}
		p.types = append(p.types, part.Header.Get("Content-Type"))
		p.add(t, len(p.types), body)
	}
}

func (p *parsed) add(t testing.TB, n int, body []byte) {
	switch n {
	case 1:
		p.text = string(body)
	case 2:
		r := textproto.NewReader(bufio.NewReader(bytes.NewReader(append(body, "\r\n"...))))
		for i := 0; ; i++ {
			h, err := r.ReadMIMEHeader()
			if len(h) == 0 {
				return
			}
			if err != nil && err != io.EOF {
				t.Fatalf("fields of the status: %v", err)
			}
			if i == 0 {
				p.message = h
			} else {
				p.recipients = append(p.recipients, h)
			}
		}
	case 3:
		p.original = string(body)
	default:
		t.Fatalf("a part too many: %q", body)
	}
}

func TestProgramsReadIt(t *testing.T) {
	p := parse(t, Build(sample(Failed)))
	want := []string{"text/plain; charset=us-ascii", "message/delivery-status", "text/rfc822-headers"}
	if d := cmp.Diff(want, p.types); d != "" {
		t.Error(d)
	}
	if len(p.recipients) != 2 {
		t.Fatalf("%d recipients", len(p.recipients))
	}
	for name, want := range map[string]string{
		"Original-Recipient": "rfc822;Bob@acme.example", "Final-Recipient": "rfc822;bob@acme.example", "Action": "failed",
		"Status": "5.1.1", "Remote-Mta": "dns; mx1.acme.example", "Diagnostic-Code": "smtp; 550 5.1.1 no such user ask postmaster",
	} {
		if got := p.recipients[0].Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if got := p.recipients[1].Get("Status"); got != "4.4.7" {
		t.Errorf("expired: status %q", got)
	}
	if got := p.message.Get("Original-Envelope-Id"); got != "QQ314159" {
		t.Errorf("envelope id %q", got)
	}
	if p.original != header {
		t.Errorf("original %q", p.original)
	}
	if p.header.Get("Auto-Submitted") != "auto-replied" {
		t.Error("not marked as automatic")
	}
}

// FuzzHostileText: whatever a peer or a sender writes, the report has three
// parts, one field of each name, and no line too long.
func FuzzHostileText(f *testing.F) {
	f.Add("no\r\n--=_x\r\nContent-Type: text/html\r\n\r\n<b>", "a\r\nBcc: x@y", "rfc822;a\nb", "id\r\n\r\nx")
	f.Add(strings.Repeat("ü", 3000), "\"a b\"@c", "x;\x00", "\x1b[2J")
	f.Add("\xff\xfe-\n-\n", "<>", ";", strings.Repeat("y", 5000))
	f.Add("x", strings.Repeat("a", 5000)+"@b", ";", "y")
	f.Fuzz(func(t *testing.T, text, address, orcpt, envid string) {
		for _, intl := range []bool{false, true} {
			r := sample(Failed)
			r.UTF8, r.EnvID, r.To, r.References = intl, envid, address, "<"+text+">"
			r.Recipients[0] = Recipient{Address: address, Original: orcpt, Status: mail.Status{Code: 550, Enhanced: text, Text: text}, Remote: text}
			report := Build(r)
			p := parse(t, report)
			if len(p.types) != 3 || len(p.recipients) != 2 {
				t.Fatalf("%d parts, %d recipients", len(p.types), len(p.recipients))
			}
			if !intl && EightBit(report) {
				t.Error("8 bit in an ASCII report")
			}
			checkFields(t, p)
			checkLines(t, report)
			checkLines(t, QSBMF(r))
		}
	})
}

func checkFields(t *testing.T, p parsed) {
	for _, h := range append(p.recipients, p.message, textproto.MIMEHeader(p.header)) {
		for name, values := range h {
			if len(values) != 1 {
				t.Errorf("%d fields %s: %q", len(values), name, values)
			}
			if name == "Bcc" {
				t.Error("a field was smuggled in")
			}
		}
	}
	if got := p.recipients[0].Get("Status"); got != "5.0.0" && !isEnhanced(got) {
		t.Errorf("status %q", got)
	}
}

func checkLines(t *testing.T, report []byte) {
	for _, line := range bytes.Split(report, []byte("\r\n")) {
		if len(line) > 998 {
			t.Errorf("a line of %d bytes", len(line))
		}
		if bytes.ContainsAny(line, "\r\n\x00\x1b") {
			t.Errorf("control characters in %q", line)
		}
	}
}

func TestIDRepeats(t *testing.T) {
	a := ID("m", 1, 2, Failed, at)
	if b := ID("m", 1, 2, Failed, at); a != b {
		t.Errorf("%s and %s", a, b)
	}
	for _, b := range []string{ID("m", 1, 3, Failed, at), ID("m", 2, 2, Failed, at), ID("n", 1, 2, Failed, at), ID("m", 1, 2, Delayed, at)} {
		if a == b {
			t.Errorf("%s twice", a)
		}
	}
	if made, ok := mail.IDTime(a); !ok || !made.Equal(at) {
		t.Errorf("made %v %v", made, ok)
	}
}

func TestLimiter(t *testing.T) {
	now := at
	l := NewLimiter(func() time.Time { return now })
	allowed := func(n int) (k int) {
		for range n {
			if l.Allow("acme", "alice@client.example", 100) {
				k++
			}
		}
		return k
	}
	if k := allowed(150); k != 100 {
		t.Errorf("%d at once", k)
	}
	if !l.Allow("acme", "bob@client.example", 100) || !l.Allow("other", "alice@client.example", 100) {
		t.Error("others pay for it")
	}
	now = now.Add(30 * time.Minute)
	if k := allowed(150); k != 50 {
		t.Errorf("%d after half an hour", k)
	}
}

func TestRemoteOfAnAddress(t *testing.T) {
	for remote, want := range map[string]string{
		"mx1.acme.example": "Remote-MTA: dns; mx1.acme.example",
		"192.0.2.25":       "Remote-MTA: dns; [192.0.2.25]",
		"2001:db8::25":     "Remote-MTA: dns; [IPv6:2001:db8::25]",
	} {
		got := Report{Kind: Failed}.fields(Recipient{Address: "bob@acme.example", Remote: remote})
		if !strings.Contains(got, want+"\r\n") {
			t.Errorf("%s: want %s in\n%s", remote, want, got)
		}
	}
}
