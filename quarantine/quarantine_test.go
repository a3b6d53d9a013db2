package quarantine

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"mime/quotedprintable"
	netmail "net/mail"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/control"
	"qstream/directory"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var since = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// hold puts legs in quarantine: message a for two recipients of acme, b for
// one of other.
func hold(t *testing.T, b *bus.Bus) (a, other string) {
	t.Helper()
	a, other = mail.NewID(since), mail.NewID(since)
	put := func(id, tenant, from, name string, at time.Time, to ...string) {
		content := "From: =?utf-8?q?Andr=C3=A9?= <andre@x.example>\r\nSubject: win\x1b[2J\r\n\r\nhello\r\n"
		sum := sha256.Sum256([]byte(content))
		received := bus.NewReceived(&pb.Received{Id: id, Content: &pb.Content{Where: &pb.Content_Inline{Inline: []byte(content)}, Size: int64(len(content)), Sha256: sum[:]}})
		if err := b.Publish(t.Context(), &received); err != nil {
			t.Fatal(err)
		}
		l := &pb.Leg{
			MessageId: id, Number: 1, Step: 2, Tenant: tenant, Queue: tenant, Generation: 1, Destination: tenant + ".example", ReversePath: from,
			Content:  &pb.ContentRef{MessageId: id, Topic: schemas.Received, Partition: received.Partition, Offsets: []int64{received.Offset}, Inline: true, Size: int64(len(content)), Sha256: sum[:]},
			ParkedMs: at.UnixMilli(), DueMs: at.Add(240 * time.Hour).UnixMilli(),
			Scan: &pb.Scan{Policy: "p", Finding: "malware", Verdicts: []*pb.Verdict{{Engine: "unpack", Outcome: "clean"}, {Engine: "clam", Outcome: "malware", Name: name}}},
		}
		for i, address := range to {
			l.Recipients = append(l.Recipients, &pb.Recipient{Number: uint32(i), Address: address})
		}
		bustest.Put(t, b, bus.NewQuarantined(l))
	}
	put(a, "acme", "", "Eicar-Test", since, "ann@acme.example", "bob@acme.example")
	put(other, "other", "carl@x.example", "Worm.B", since.Add(time.Hour), "eve@other.example")
	bustest.Put(t, b, bus.Record{Topic: schemas.Quarantine, Partition: bus.AnyPartition, Key: []byte("x"), Value: []byte("\xff garbage")})
	return a, other
}

func TestList(t *testing.T) {
	b := bustest.New(t)
	a, other := hold(t, b)
	for name, c := range map[string]struct {
		s    Selection
		want string
	}{
		"everything":        {Selection{}, "acme:0,1 other:0"},
		"a message":         {Selection{IDs: []string{a}}, "acme:0,1"},
		"a leg":             {Selection{IDs: []string{other + ".1"}}, "other:0"},
		"another leg":       {Selection{IDs: []string{other + ".2"}}, ""},
		"a tenant":          {Selection{Tenant: "acme"}, "acme:0,1"},
		"a queue":           {Selection{Queue: "other"}, "other:0"},
		"a recipient":       {Selection{Recipient: "bob@acme.example"}, "acme:1"},
		"a domain":          {Selection{Recipient: "@OTHER.example"}, "other:0"},
		"a sender":          {Selection{ReversePath: "carl@x.example"}, "other:0"},
		"null senders":      {Selection{ReversePath: "<>"}, "acme:0,1"},
		"a finding":         {Selection{Finding: "spam"}, ""},
		"a name":            {Selection{Name: "worm"}, "other:0"},
		"since":             {Selection{Since: since.Add(time.Minute)}, "other:0"},
		"until":             {Selection{Until: since.Add(time.Hour)}, "acme:0,1"},
		"all at once, none": {Selection{Tenant: "acme", Name: "worm"}, ""},
	} {
		legs, err := All(t.Context(), b, c.s)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, l := range legs {
			var numbers []string
			for _, r := range l.Meant {
				numbers = append(numbers, fmt.Sprint(r.Number))
			}
			got = append(got, l.Tenant+":"+strings.Join(numbers, ","))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	for name, s := range map[string]Selection{
		"no id": {IDs: []string{"x"}}, "no leg": {IDs: []string{a + ".x"}}, "no address": {Recipient: "x"}, "no sender": {ReversePath: "x"},
	} {
		if _, err := All(t.Context(), b, s); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func apply(t *testing.T, b *bus.Bus, text string) {
	t.Helper()
	docs, err := directory.Parse(directory.File{Name: "x", Data: []byte(text)})
	if err == nil {
		_, err = directory.Apply(t.Context(), b, directory.Change{Documents: docs}, directory.Options{Retention: -1})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// An order names the chosen recipients of a leg, and its stay.
func TestOrder(t *testing.T) {
	b := bustest.New(t)
	a, _ := hold(t, b)
	legs, err := All(t.Context(), b, Selection{Recipient: "bob@acme.example"})
	if err != nil {
		t.Fatal(err)
	}
	who := Who{Actor: "op", Reason: "asked"}
	const unscanned = "kind: tenant\nname: acme\ndomains: [acme.example]\n---\nkind: route\nname: all\nmatch: {domain: \"*\"}\nvia: smtp://mx\n"
	apply(t, b, unscanned)
	// What nobody would scan is not let go to be scanned.
	if n, err := Order(t.Context(), b, control.Release, legs, true, who); n != 0 || !errors.Is(err, ErrNobodyScans) {
		t.Fatal(n, err)
	}
	apply(t, b, unscanned+"---\nkind: engine\nname: e\ntype: unpack\n---\nkind: scan\nname: p\nengines: e\n---\nkind: queue\nname: acme\nscan: p\n")
	if n, err := Order(t.Context(), b, control.Release, legs, true, who); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	s, err := control.Read(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	all := s.Orders(control.Held{MessageID: a, Leg: 1, Since: since.UnixMilli()})
	if len(all) != 1 || !all[0].Rescan || all[0].Of(0) || !all[0].Of(1) || all[0].Actor != "op" {
		t.Errorf("%+v", all)
	}
}

// The name that is shown is that of the finding, whoever spoke first.
func TestFound(t *testing.T) {
	clean, spam := &pb.Verdict{Engine: "types", Outcome: "clean"}, &pb.Verdict{Engine: "rspamd", Outcome: "spam", Reason: "x"}
	worm := &pb.Verdict{Engine: "clam", Outcome: "malware", Name: "Worm"}
	for _, c := range []struct {
		finding, engine, name string
		verdicts              []*pb.Verdict
	}{
		{"malware", "clam", "Worm", []*pb.Verdict{clean, spam, worm}},
		{"spam", "rspamd", "x", []*pb.Verdict{clean, spam}},
		{"poison", "rspamd", "x", []*pb.Verdict{clean, spam, worm}},
		{"spam", "", "", []*pb.Verdict{clean}},
	} {
		l := Leg{Leg: &pb.Leg{Scan: &pb.Scan{Finding: c.finding, Verdicts: c.verdicts}}}
		if engine, name := l.Found(); engine != c.engine || name != c.name {
			t.Errorf("%s: %s by %s", c.finding, name, engine)
		}
	}
}

func TestForward(t *testing.T) {
	b := bustest.New(t)
	a, _ := hold(t, b)
	legs, err := All(t.Context(), b, Selection{IDs: []string{a}})
	if err != nil {
		t.Fatal(err)
	}
	ids, err := Forward(t.Context(), b, legs, mail.Address{Local: "lab", Domain: "acme.example"}, Who{Actor: "op", Now: since})
	if err != nil || len(ids) != 1 {
		t.Fatal(ids, err)
	}
	var p pb.Reinject
	if err := proto.Unmarshal(bustest.Want(t, b, schemas.Reinject, 1)[0].Value, &p); err != nil {
		t.Fatal(err)
	}
	if p.Id != ids[0] || p.ParentId != a || p.Envelope.Recipients[0].Address != "lab@acme.example" || p.Scan.State != pb.ScanState_SCAN_STATE_EXEMPT || p.Envelope.ReversePath != "" {
		t.Errorf("%v", &p)
	}
	body, err := Open(t.Context(), b, legs[0])
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if text, err := io.ReadAll(body); err != nil || !strings.HasSuffix(string(text), "hello\r\n") {
		t.Errorf("%q %v", text, err)
	}
}

// A digest tells each recipient of his own mail only, in harmless text, and is
// the same message when it is sent again.
func TestDigest(t *testing.T) {
	b := bustest.New(t)
	hold(t, b)
	legs, err := All(t.Context(), b, Selection{})
	if err != nil {
		t.Fatal(err)
	}
	all := Digests(legs)
	if len(all) != 3 || all[0].Recipient != "ann@acme.example" || all[2].Tenant != "other" {
		t.Fatalf("%+v", all)
	}
	by := Letter{From: mail.Address{Local: "postmaster", Domain: "acme.example"}, Host: "acme.example", Contact: "the help desk", Who: Who{Now: since}}
	snap := &directory.Snapshot{}
	id, err := all[0].Send(t.Context(), b, by, snap)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := all[0].Send(t.Context(), b, by, snap); again != id || err != nil {
		t.Errorf("sent again as %s, %v", again, err)
	}
	var p pb.Reinject
	if err := proto.Unmarshal(bustest.Want(t, b, schemas.Reinject, 2)[0].Value, &p); err != nil {
		t.Fatal(err)
	}
	if p.Origin != pb.Origin_ORIGIN_DIGEST || p.Tenant != "acme" || len(p.Envelope.Recipients) != 1 {
		t.Errorf("%v", &p)
	}
	m, err := netmail.ReadMessage(bytes.NewReader(p.Content.GetInline()))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for _, want := range []string{"from     André <andre@x.example>", "subject  win [2J", "malware (Eicar-Test, by clam)", "until 2026-03-11", "ask the help desk"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if strings.Contains(text, "bob@") || strings.Contains(text, "\x1b") || m.Header.Get("Auto-Submitted") != "auto-generated" {
		t.Errorf("%v\n%s", m.Header, text)
	}
}

// However much is held, a digest fits a record.
func TestDigestIsBounded(t *testing.T) {
	b := bustest.New(t)
	l := Leg{Leg: &pb.Leg{MessageId: mail.NewID(since), ReversePath: strings.Repeat("ä", 200), ParkedMs: 1, Scan: &pb.Scan{Finding: "malware",
		Verdicts: []*pb.Verdict{{Engine: strings.Repeat("ö", 300), Outcome: "malware", Name: strings.Repeat("ü", 300)}}}}}
	d := Digest{Recipient: "ann@acme.example", Legs: slices.Repeat([]Leg{l}, 5000)}
	text := d.text(t.Context(), b, Letter{}, "id")
	if len(text) > bus.InlineLimit || !strings.Contains(string(text), "more") {
		t.Errorf("%d octets", len(text))
	}
}
