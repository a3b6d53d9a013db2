package directory

import (
	"strings"
	"testing"
	"time"

	"qstream/bus/bustest"
	pb "qstream/schemas/qstream/v1"
)

const (
	hookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	hookText   = "kind: tenant\nname: acme\ndomains: [acme.example]\n---\nkind: webhook\nname: w\ntenant: acme\nurl: https://hooks.acme.example/q\nsecret: " + hookSecret + "\n"
)

func TestWebhookDocuments(t *testing.T) {
	base := "kind: webhook\nname: w\n"
	for _, tt := range []struct{ name, text, want string }{
		{"whole", base + "tenant: acme\nurl: https://h.example/p\nsecret: " + hookSecret + "\nformer_secret: " + hookSecret +
			"\nevents: [delivered, bounced]\nrecipients: [ann@acme.example, '@.acme.example']\nqueue: default\nconcurrency: 2\ntimeout: 5s\ngive_up: {after: 2d, then: pause}\n", ""},
		{"all", base + "all: true\nurl: https://h.example\nsecret: " + hookSecret + "\n", ""},
		{"private http", base + "all: true\nprivate: true\nurl: http://127.0.0.1:1/\nsecret: " + hookSecret + "\n", ""},
		{"nobody's", base + "url: https://h.example\nsecret: " + hookSecret + "\n", "say whose events"},
		{"both", base + "tenant: acme\nall: true\nurl: https://h.example\nsecret: " + hookSecret + "\n", "say whose events"},
		{"http", base + "all: true\nurl: http://h.example\nsecret: " + hookSecret + "\n", "http is only for private"},
		{"other scheme", base + "all: true\nurl: file:///etc/passwd\nsecret: " + hookSecret + "\n", "is no URL"},
		{"gopher", base + "all: true\nurl: gopher://h.example/\nsecret: " + hookSecret + "\n", "neither https nor http"},
		{"user in it", base + "all: true\nurl: https://u:p@h.example\nsecret: " + hookSecret + "\n", "no user and password"},
		{"fragment", base + "all: true\nurl: https://h.example/#x\nsecret: " + hookSecret + "\n", "fragment"},
		{"no secret", base + "all: true\nurl: https://h.example\n", "secret is missing"},
		{"short secret", base + "all: true\nurl: https://h.example\nsecret: whsec_AAAA\n", "24 to 64 octets"},
		{"event", base + "all: true\nurl: https://h.example\nevents: [Delivered]\nsecret: " + hookSecret + "\n", "no type of event"},
		{"no event", base + "all: true\nurl: https://h.example\nevents: [unspecified]\nsecret: " + hookSecret + "\n", "no type of event"},
		{"tenant unknown", base + "tenant: nobody\nurl: https://h.example\nsecret: " + hookSecret + "\n", `there is no tenant "nobody"`},
		{"queue unknown", base + "all: true\nqueue: nowhere\nurl: https://h.example\nsecret: " + hookSecret + "\n", `there is no queue "nowhere"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			docs, err := Parse(File{Name: "f", Data: []byte("kind: tenant\nname: acme\n---\n" + tt.text)})
			if err == nil {
				_, err = Build(docs)
			}
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), hookSecret) {
				t.Errorf("the error shows the secret: %v", err)
			}
		})
	}
}

func TestWebhookWants(t *testing.T) {
	w := &Webhook{Recipients: []string{"ann@acme.example", "@beta.example", "@.sub.example"}}
	for address, want := range map[string]bool{
		"Ann@ACME.example": true, "bob@acme.example": false, "x@beta.example": true, "x@a.beta.example": false,
		"x@a.sub.example": true, "x@sub.example": false, "": false, "postmaster": false,
	} {
		if got := w.Wants(address); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
	if !(&Webhook{}).Wants("x@y.example") {
		t.Error("without recipients it wants all")
	}
}

func TestEventWords(t *testing.T) {
	for n := range pb.EventType_name {
		if n == 0 {
			continue
		}
		if got, err := ParseEventType(EventWord(pb.EventType(n))); err != nil || got != pb.EventType(n) {
			t.Errorf("%v: %v %v", pb.EventType(n), got, err)
		}
	}
}

func TestTenantEvents(t *testing.T) {
	for text, want := range map[string]string{
		"events: {topic: true, retention: 5d, principal: 'User:acme'}": "",
		"events: {principal: acme}":                                    "User:NAME",
		"events: {principal: 'User:*'}":                                "let everybody read",
		"events: {principal: 'User:ANONYMOUS'}":                        "let everybody read",
		"events: {retention: 30s}":                                     "between",
	} {
		_, err := Parse(File{Name: "f", Data: []byte("kind: tenant\nname: acme\n" + text + "\n")})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: error %v, want %q", text, err, want)
		}
	}
	s, err := Build(documentsOf(t, "kind: tenant\nname: acme\nevents: {topic: true, retention: 5d, principal: 'User:acme'}\n"))
	if err != nil {
		t.Fatal(err)
	}
	topics := s.Topics(time.Hour)
	last := topics[len(topics)-1]
	if last.Name != "qstream.events.acme.v1" || last.Retention != 5*24*time.Hour || last.Reader != "User:acme" || last.ReaderOf != "acme." {
		t.Errorf("%+v", last)
	}
}

// TestOwnerOfEverything: a tenant with a topic of its own is no way around the
// check for open relays.
func TestOwnerOfEverything(t *testing.T) {
	docs := documentsOf(t, "kind: tenant\nname: acme\ndomains: ['*']\nevents: {topic: true}\n---\nkind: route\nname: out\nmatch: {domain: '*'}\nvia: smtp://mx\n")
	if _, err := Build(docs); err == nil || !strings.Contains(err.Error(), "open relay") {
		t.Errorf("error %v", err)
	}
}

// TestSubscribedSince: a subscriber begins when its document came, keeps that
// over other changes and full records, and begins anew when it comes again.
func TestSubscribedSince(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	now := time.UnixMilli(1_763_900_000_000)
	put := func(c Change) *Snapshot {
		t.Helper()
		now = now.Add(time.Minute)
		done, err := Apply(t.Context(), b, c, Options{Now: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		s, err := Read(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range s.Webhooks() {
			if got := done.After.Webhook(w.Name); !got.Since.Equal(w.Since) {
				t.Errorf("applied since %v, read since %v", got.Since, w.Since)
			}
		}
		return s
	}
	docs := documentsOf(t, hookText)
	first := put(Change{Documents: docs}).Webhook("w").Since
	if !first.Equal(now) {
		t.Errorf("since %v, want %v", first, now)
	}
	with := "kind: tenant\nname: acme\ndomains: [acme.example]\nevents: {topic: true}\n"
	s := put(Change{Documents: documentsOf(t, with)})
	if got := s.Tenant("acme").Events.Since; !got.Equal(now) || !s.Webhook("w").Since.Equal(first) {
		t.Errorf("topic since %v, webhook since %v", got, s.Webhook("w").Since)
	}
	for i := range fullEvery + 1 {
		s = put(Change{Documents: documentsOf(t, "kind: site\nme: mx"+strings.Repeat("x", i%30)+".example\n")})
	}
	if !s.Webhook("w").Since.Equal(first) {
		t.Errorf("since %v after full records", s.Webhook("w").Since)
	}
	put(Change{Delete: []Ref{{KindWebhook, "w"}}})
	if got := put(Change{Documents: docs}).Webhook("w").Since; !got.Equal(now) {
		t.Errorf("it came again, since %v", got)
	}
}

// TestWebhookSecretsAreHidden: shown documents hide them, and may be applied.
func TestWebhookSecretsAreHidden(t *testing.T) {
	docs := documentsOf(t, hookText)
	shown := docs[1].YAML
	if strings.Contains(shown, hookSecret) || !strings.Contains(shown, "secret: hidden:") {
		t.Fatalf("shown as\n%s", shown)
	}
	if _, err := Build(documentsOf(t, "kind: tenant\nname: acme\n---\n"+shown)); err == nil {
		t.Error("a hidden secret was taken for one")
	}
	again, err := documentsOf(t, shown)[0].resolve(docs[1])
	if err != nil || again.text != docs[1].text {
		t.Errorf("%v\n%s", err, again.text)
	}
}
