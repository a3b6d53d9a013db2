package sink_test

import (
	"context"
	"flag"
	"io"
	"net/mail"
	"os"
	"os/exec"
	"strings"
	"testing"

	"qstream/tapper/sink"
	"qstream/tapper/sink/sinktest"
)

var update = flag.Bool("update", false, "write golden files")

func text(t *testing.T, c sink.Copy, form sink.Form) string {
	t.Helper()
	m, err := sink.Mail(t.Context(), &c, form, "mx.example")
	if err != nil {
		t.Fatal(err)
	}
	r, err := m.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(b)) != m.Size {
		t.Errorf("%d octets, told were %d", len(b), m.Size)
	}
	return string(b)
}

// TestReports: journal reports, octet by octet.
func TestReports(t *testing.T) {
	other := sinktest.Full(6, "From: ann@sender.example\r\nTo: all@acme.example\r\nBcc: bob@acme.example\r\n"+
		"Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\n =?utf-8?q?_an?= alle\r\n\r\nno end")
	for name, c := range map[string]sink.Copy{
		"full": sinktest.Full(1, sinktest.Content(1)), "envelope": sinktest.Envelope(2),
		"outcome": sinktest.Outcome(3), "sealed": sinktest.Sealed(4), "other": other,
		"headless": sinktest.Full(7, "\r\nno header\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			got := text(t, c, sink.Report)
			file := "testdata/" + name + ".eml"
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil || string(want) != got {
				t.Errorf("%v: got\n%s", err, got)
			}
			if c.Open != nil && !c.Sealed && !strings.Contains(got, "\r\n\r\n"+string(sinktest.Message(c))+"\r\n--") {
				t.Error("the message isn't in it as it is")
			}
			for line := range strings.SplitSeq(got, "\r\n") {
				if len(line) > 998 || strings.ContainsAny(line, "\r\n") {
					t.Errorf("line %q", line)
				}
			}
			if m, err := mail.ReadMessage(strings.NewReader(got)); err != nil || m.Header.Get("X-Qstream-Copy") != c.ID {
				t.Errorf("%v, %v", m, err)
			}
		})
	}
}

// peer reads a report as archives of mail do, by a library that isn't ours.
const peer = `
import email, email.policy, sys
m = email.message_from_binary_file(sys.stdin.buffer, policy=email.policy.default)
parts = list(m.iter_parts())
assert not m.defects and all(not p.defects for p in m.walk()), [p.defects for p in m.walk()]
print(m.get_content_type(), [p.get_content_type() for p in parts])
fields = [l.split(": ", 1) for l in parts[0].get_content().splitlines() if l]
print([f[0] for f in fields])
print([f[1] for f in fields if f[0] in ("To", "Cc", "Bcc", "Recipient")])
if parts[1].get_content_type() == "message/rfc822":
    print(parts[1].get_content()["Subject"])
`

func TestReportsAreReadByOthers(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("needs Python")
	}
	cmd := exec.CommandContext(t.Context(), python, "-c", peer)
	cmd.Stdin = strings.NewReader(text(t, sinktest.Full(1, sinktest.Content(1)), sink.Report))
	got, err := cmd.CombinedOutput()
	const want = `multipart/mixed ['text/plain', 'message/rfc822']
['Sender', 'Subject', 'Message-ID', 'To', 'Cc', 'Recipient']
['bob@acme.example', 'carol@acme.example', 'dave@acme.example, Forwarded: all@acme.example']
copy 1
`
	if err != nil || string(got) != want {
		t.Errorf("%v: %s", err, got)
	}
}

// FuzzReport: whatever a header says, the report's own parts stay as they are.
func FuzzReport(f *testing.F) {
	f.Add("Subject: x\r\nTo: a@b.example\r\n\r\nbody\r\n", "a@b.example")
	f.Add("Subject: =?utf-8?q?=0D=0ATo:_x?=\r\n fold\r\n\r\n", "x\r\nTo: y@z.example")
	f.Add(strings.Repeat("x", 2000)+":\r\n", strings.Repeat("\x00é", 700))
	f.Fuzz(func(t *testing.T, content, address string) {
		c := sinktest.Full(1, content)
		c.Recipients = append(c.Recipients[:1:1], sinktest.Recipient(9, address, "rfc822;"+address))
		c.Received.HeaderMessageId, c.Received.Envelope.ReversePath = address, address
		m, err := sink.Mail(context.Background(), &c, sink.Report, "mx.example")
		if err != nil {
			t.Fatal(err)
		}
		r, err := m.Open(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil || int64(len(b)) != m.Size {
			t.Fatalf("%d octets, told were %d, %v", len(b), m.Size, err)
		}
		head, rest, ok := strings.Cut(string(b), "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"+string(sinktest.Message(c))+"\r\n--")
		if !ok || strings.Count(head, "\r\n--") != 2 || !strings.HasSuffix(rest, "--\r\n") {
			t.Fatalf("%q", b)
		}
		_, told, _ := strings.Cut(head, "8bit\r\n\r\n")
		if n := strings.Count(told, "\r\n"); n != 7 { // Sender, Subject, Message-ID, two recipients, an empty one, the boundary
			t.Fatalf("%d lines in %q", n, told)
		}
	})
}
