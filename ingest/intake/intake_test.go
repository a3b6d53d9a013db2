package intake

import (
	"context"
	"crypto/tls"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/directory"
	"qstream/ingest/share"
	pb "qstream/schemas/qstream/v1"
)

const site = `
kind: site
name: site
me: mx.acme.example
---
kind: tenant
name: acme
domains: [acme.example]
networks: [192.0.2.0/24]
---
kind: queue
name: acme
---
kind: route
name: acme
match: {domain: "*"}
via: "discard:"
`

func newIntake(t *testing.T, b *bus.Bus) *Intake {
	t.Helper()
	docs, err := directory.Parse(directory.File{Name: "test.yaml", Data: []byte(site)})
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := directory.Build(docs)
	if err != nil {
		t.Fatal(err)
	}
	in, err := New(Config{Hostname: "edge.example", MaxRecipients: 2}, Deps{Bus: b, Snapshot: func() *directory.Snapshot { return snapshot }})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func session(t *testing.T, in *Intake, c Client) *Session {
	t.Helper()
	if !c.Addr.IsValid() {
		c.Addr = netip.MustParseAddrPort("198.51.100.7:1234")
	}
	s, err := in.NewSession(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// code is the reply code of an error, 0 for none.
func code(err error) int {
	var e *smtp.SMTPError
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

// A front end that calls out of order, as no dialogue lets it, is refused.
func TestOutOfOrder(t *testing.T) {
	s := session(t, newIntake(t, bustest.New(t)), Client{})
	if c := code(s.Rcpt("a@acme.example", nil)); c != 503 {
		t.Errorf("recipient without sender: %d", c)
	}
	if c := code(s.Data(strings.NewReader("x"))); c != 503 {
		t.Errorf("content without envelope: %d", c)
	}
	if err := s.Mail("", nil); err != nil {
		t.Fatal(err)
	}
	if c := code(s.Data(strings.NewReader("x"))); c != 503 {
		t.Errorf("content without recipients: %d", c)
	}
	if c := code(s.Rcpt("", nil)); c != 501 {
		t.Errorf("null recipient: %d", c)
	}
	if c := code(s.Rcpt("a@acme.example>", nil)); c != 501 {
		t.Errorf("malformed recipient: %d", c)
	}
	for i, want := range []int{0, 0, 452} {
		if c := code(s.Rcpt(strings.Repeat("a", i+1)+"@acme.example", nil)); c != want {
			t.Errorf("recipient %d: %d", i, c)
		}
	}
	s.Reset()
	if c := code(s.Data(strings.NewReader("x"))); c != 503 {
		t.Errorf("content after a reset: %d", c)
	}
	if err := s.Logout(); err != nil {
		t.Error(err)
	}
}

// The right to relay is the client's of this moment, not of its last mail.
func TestRelayByNetwork(t *testing.T) {
	in := newIntake(t, bustest.New(t))
	for addr, want := range map[string]int{"192.0.2.9:25": 0, "[::ffff:192.0.2.9]:25": 0, "198.51.100.7:25": 553, "[2001:db8::1]:25": 553} {
		s := session(t, in, Client{Addr: netip.MustParseAddrPort(addr)})
		if err := s.Mail("", nil); err != nil {
			t.Fatal(err)
		}
		if c := code(s.Rcpt("a@elsewhere.example", nil)); c != want {
			t.Errorf("%s: %d", addr, c)
		}
	}
}

func TestProtocolInTrace(t *testing.T) {
	in := newIntake(t, bustest.New(t))
	for _, tt := range []struct {
		client Client
		utf8   bool
		want   string
	}{
		{Client{}, false, "SMTP"},
		{Client{ESMTP: true}, false, "ESMTP"},
		{Client{ESMTP: true, TLS: &tls.ConnectionState{Version: tls.VersionTLS13}}, false, "ESMTPS"},
		{Client{ESMTP: true}, true, "UTF8SMTP"},
		{Client{ESMTP: true, TLS: &tls.ConnectionState{}}, true, "UTF8SMTPS"},
		{Client{ESMTP: true, User: "u", Vouched: true}, false, "ESMTPA"},
		{Client{ESMTP: true, User: "u", Vouched: true, TLS: &tls.ConnectionState{}}, false, "ESMTPSA"},
		{Client{ESMTP: true, User: "u", Vouched: true, TLS: &tls.ConnectionState{}}, true, "UTF8SMTPSA"},
		{Client{Protocol: pb.Protocol_PROTOCOL_LMTP, User: "u", Vouched: true}, false, "LMTPA"},
		{Client{Protocol: pb.Protocol_PROTOCOL_LMTP}, false, "LMTP"},
		{Client{Protocol: pb.Protocol_PROTOCOL_LMTP}, true, "UTF8LMTP"},
		{Client{Protocol: pb.Protocol_PROTOCOL_QMQP}, false, "QMQP"},
		{Client{Protocol: pb.Protocol_PROTOCOL_QMTP}, true, "QMTP"},
		{Client{Protocol: pb.Protocol_PROTOCOL_HTTP}, false, "HTTP"},
	} {
		s := session(t, in, tt.client)
		if err := s.Mail("", &smtp.MailOptions{UTF8: tt.utf8}); err != nil {
			t.Fatal(err)
		}
		if got := s.with(); got != tt.want {
			t.Errorf("%+v: %s, want %s", tt.client, got, tt.want)
		}
	}
}

func TestNameInTrace(t *testing.T) {
	in := newIntake(t, bustest.New(t))
	s := session(t, in, Client{})
	if err := s.Mail("", nil); err != nil {
		t.Fatal(err)
	}
	if got := s.by(); got != "mx.acme.example" {
		t.Errorf("by %s, want the site's name", got)
	}
	in.cfg.By = "edge-1.acme.example"
	if got := s.by(); got != in.cfg.By {
		t.Errorf("by %s, want the name asked for", got)
	}
}

// The reader's error is the client's reply if it is one, and else nobody's.
func TestReadErrors(t *testing.T) {
	s := session(t, newIntake(t, bustest.New(t)), Client{})
	gone := errors.New("connection reset")
	for _, want := range []error{&smtp.SMTPError{Code: 550}, gone} {
		if err := s.Mail("", nil); err != nil {
			t.Fatal(err)
		}
		if err := s.Rcpt("a@acme.example", nil); err != nil {
			t.Fatal(err)
		}
		if err := s.Data(failing{want}); err != want {
			t.Errorf("%v, want %v", err, want)
		}
	}
}

type failing struct{ error }

func (f failing) Read([]byte) (int, error) { return 0, f.error }

func TestNewChecks(t *testing.T) {
	b := bustest.New(t)
	snapshot := func() *directory.Snapshot { return nil }
	for name, f := range map[string]func() (*Intake, error){
		"host name": func() (*Intake, error) { return New(Config{}, Deps{Bus: b, Snapshot: snapshot}) },
		"bus":       func() (*Intake, error) { return New(Config{Hostname: "x"}, Deps{Snapshot: snapshot}) },
		"directory": func() (*Intake, error) { return New(Config{Hostname: "x"}, Deps{Bus: b}) },
	} {
		if _, err := f(); err == nil {
			t.Errorf("no %s: taken", name)
		}
	}
}

// A session whose end is forced stops waiting for its turn.
func TestTurnEndsWithTheSession(t *testing.T) {
	in := newIntake(t, bustest.New(t))
	in.large = share.New(0, 0) // nobody's turn ever comes
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m := &message{in: in}
	if err := m.takeTurn(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A client that begins large messages and doesn't end them has half of the
// places at most: others' turn comes.
func TestTurnsAreShared(t *testing.T) {
	in := newIntake(t, bustest.New(t))
	in.large = share.New(2, 1)
	take := func(addr, user string) (*message, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		m := &message{in: in, client: Client{Addr: netip.MustParseAddrPort(addr), User: user}.share()}
		return m, m.takeTurn(ctx)
	}
	first, err := take("[2001:db8::1]:25", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := take("[2001:db8::2]:25", ""); err == nil {
		t.Error("a network has both places")
	}
	second, err := take("192.0.2.1:25", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := take("192.0.2.2:25", ""); err == nil {
		t.Error("more than there are")
	}
	first.close()
	second.close()
	alice, err := take("192.0.2.1:25", "alice@acme.example")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := take("192.0.2.9:25", "alice@acme.example"); err == nil {
		t.Error("a user has both places")
	}
	bob, err := take("192.0.2.1:25", "bob@bolt.example")
	if err != nil {
		t.Error(err)
	}
	alice.close()
	bob.close()
}
