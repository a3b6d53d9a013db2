package order

import (
	"errors"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"

	"qstream/mail"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// sample is an order of one rule, from start on for 30 days.
func sample(id string, rules ...Rule) Order {
	if len(rules) == 0 {
		rules = []Rule{{Recipient: "bob@acme.example"}}
	}
	return Order{
		ID: id, Reference: "Court of Example, 12 Gs 345/26", Who: rules, What: Full, From: start, Until: start.AddDate(0, 0, 30),
		Sink: "maildir:/srv/taps/345",
	}
}

func newID() string { return mail.NewID(start) }

func TestComplete(t *testing.T) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func(*Order)
		want   string // in the error; empty: it is valid
	}{
		{"valid", func(*Order) {}, ""},
		{"encrypted", func(o *Order) { o.Encrypt = identity.Recipient().String() }, ""},
		{"no age key", func(o *Order) { o.Encrypt = "age1qqqq" }, "encrypt: want an age public key"},
		{"private age key", func(o *Order) { o.Encrypt = identity.String() }, "encrypt: want an age public key"},
		{"an age key and more", func(o *Order) { o.Encrypt = identity.Recipient().String() + "\n" + identity.Recipient().String() }, "encrypt: want"},
		{"an age key in capitals", func(o *Order) { o.Encrypt = strings.ToUpper(identity.Recipient().String()) }, "encrypt: want"},
		{"a misspelt age key", func(o *Order) { o.Encrypt = identity.Recipient().String()[:61] + "b" }, "encrypt: want"},
		{"a key of a plug-in", func(o *Order) { o.Encrypt = "age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t" }, "encrypt: want"},
		{"a key of SSH", func(o *Order) { o.Encrypt = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIL" }, "encrypt: want"},
		{"hostile age key", func(o *Order) { o.Encrypt = "age1\x1b[31m" }, "encrypt: want"},
		{"a key to which nothing can be encrypted", func(o *Order) {
			o.Encrypt = "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqm2awlv" // all zeros
		}, "encrypt: want"},
		{"no id", func(o *Order) { o.ID = "7" }, "id: want an id"},
		{"no reference", func(o *Order) { o.Reference = "  " }, "reference: is missing"},
		{"hostile reference", func(o *Order) { o.Reference = "a\x1b[31m" }, "reference: want at most"},
		{"long reference", func(o *Order) { o.Reference = strings.Repeat("a", 501) }, "reference: want at most"},
		{"nobody", func(o *Order) { o.Who = nil }, "who: is missing"},
		{"too many", func(o *Order) { o.Who = make([]Rule, MaxRules+1) }, "who: more than 500"},
		{"what", func(o *Order) { o.What = "some" }, "what: want full or envelope"},
		{"no end", func(o *Order) { o.Until = time.Time{} }, "no order is without an end"},
		{"ends before it begins", func(o *Order) { o.Until = o.From }, "until: 2026-03-01T12:00:00Z is not after"},
		{"for ever", func(o *Order) { o.Until = o.From.AddDate(6, 0, 0) }, "more than five years"},
		{"no sink", func(o *Order) { o.Sink = "" }, "sink: a sink names a place"},
		{"unknown sink", func(o *Order) { o.Sink = "ftp://x" }, "sink: "},
		{"large", func(o *Order) {
			o.Who = nil
			for range MaxRules {
				o.Who = append(o.Who, Rule{Recipient: strings.Repeat("a", 200) + "@acme.example"})
			}
		}, "is longer than 64 KiB"},
	} {
		o := sample(newID())
		c.change(&o)
		_, err := o.Complete()
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (!errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
}

func TestEveryFaultIsTold(t *testing.T) {
	_, err := Order{Who: []Rule{{Sender: "x"}, {}}}.Complete()
	for _, want := range []string{"id:", "reference:", "who, rule 1: sender: x", "who, rule 2: says nothing", "what:", "from, until:", "sink:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v doesn't tell %s", err, want)
		}
	}
}

func TestRules(t *testing.T) {
	for _, c := range []struct {
		in, want Rule
		err      string
	}{
		{in: Rule{Recipient: "Bob@ACME.example"}, want: Rule{Recipient: "bob@acme.example"}},
		{in: Rule{Recipient: "<bob@acme.example>"}, want: Rule{Recipient: "bob@acme.example"}},
		{in: Rule{Sender: "@acme.example"}, want: Rule{Sender: "*@acme.example"}},
		{in: Rule{Sender: "<>"}, want: Rule{Sender: "<>"}},
		{in: Rule{Recipient: "postmaster"}, want: Rule{Recipient: "postmaster"}},
		{in: Rule{Recipient: `"bob smith"@acme.example`}, want: Rule{Recipient: `"bob smith"@acme.example`}},
		{in: Rule{Recipient: `"bob"@acme.example`}, want: Rule{Recipient: `bob@acme.example`}},
		{in: Rule{Recipient: "bob-*@.acme.example"}, want: Rule{Recipient: "bob-*@*.acme.example"}},
		{in: Rule{Recipient: "bob@*"}, want: Rule{Recipient: "bob@*"}},
		{in: Rule{Domain: "Bücher.example"}, want: Rule{Domain: "xn--bcher-kva.example"}},
		{in: Rule{Domain: ".acme.example"}, want: Rule{Domain: "*.acme.example"}},
		{in: Rule{Domain: "[192.0.2.1]"}, want: Rule{Domain: "[192.0.2.1]"}},
		{in: Rule{Tenant: "acme"}, want: Rule{Tenant: "acme"}},
		{in: Rule{Tenant: "Acme"}, err: "tenant: want"},
		{in: Rule{}, err: "says nothing"},
		{in: Rule{Recipient: "<>"}, err: "no recipient is the null path"},
		{in: Rule{Recipient: "*@*"}, err: "is everybody"},
		{in: Rule{Sender: "@*"}, err: "is everybody"},
		{in: Rule{Domain: "*"}, err: "is everybody"},
		{in: Rule{Recipient: "bob"}, err: "want an address"},
		{in: Rule{Recipient: "bob@acme*.example"}, err: "stands alone or as its first label"},
		{in: Rule{Domain: "*.*.example"}, err: "stands alone or as its first label"},
		{in: Rule{Domain: "bob@acme.example"}, err: "is no domain"},
		{in: Rule{Domain: ".[192.0.2.1]"}, err: "nothing is below"},
	} {
		got, err := c.in.complete()
		switch {
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%+v: %v, want %s", c.in, err, c.err)
		case c.err == "" && (err != nil || got != c.want):
			t.Errorf("%+v: %+v, %v, want %+v", c.in, got, err, c.want)
		}
	}
}

// One order has one canonical form, and only that is read back.
func TestCanonical(t *testing.T) {
	o, err := sample(newID(), Rule{Sender: "ANN@acme.example", Domain: "b.example"}).Complete()
	if err != nil {
		t.Fatal(err)
	}
	text, err := o.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(o, again); diff != "" {
		t.Error(diff)
	}
	for name, other := range map[string]string{
		"a blank":        strings.Replace(string(text), `{"id"`, `{ "id"`, 1),
		"another order":  strings.Replace(string(text), "ann@", "Ann@", 1),
		"an unknown key": strings.Replace(string(text), `{"id"`, `{"x":1,"id"`, 1),
		"a key twice":    strings.Replace(string(text), `"what":"full"`, `"what":"envelope","what":"full"`, 1),
		"something more": string(text) + "{}",
		"another zone":   strings.Replace(string(text), "12:00:00Z", "13:00:00+01:00", 1),
	} {
		if _, err := Decode([]byte(other)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s is read: %v", name, err)
		}
	}
}

func TestParse(t *testing.T) {
	text := `# two orders
---
kind: tap
reference: 12 Gs 345/26
who:
- recipient: bob@acme.example
- {sender: "*@evil.example", tenant: acme}
what: full
from: 2026-03-02
until: 2026-04-01T00:00:00+02:00
retro: true
sink: maildir:/srv/taps/345
---
kind: tap
reference: 4711
who: [{domain: .acme.example}]
what: envelope
until: 31d
sink: file:/srv/taps/4711
`
	orders, err := Parse([]byte(text), start)
	if err != nil {
		t.Fatal(err)
	}
	want := []Order{
		{ID: orders[0].ID, Reference: "12 Gs 345/26", Who: []Rule{{Recipient: "bob@acme.example"}, {Sender: "*@evil.example", Tenant: "acme"}}, What: Full,
			From: time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC), Until: time.Date(2026, 3, 31, 22, 0, 0, 0, time.UTC), Retro: true, Sink: "maildir:/srv/taps/345"},
		{ID: orders[1].ID, Reference: "4711", Who: []Rule{{Domain: "*.acme.example"}}, What: Envelope, From: start,
			Until: start.AddDate(0, 0, 31), Sink: "file:/srv/taps/4711"},
	}
	if diff := cmp.Diff(want, orders); diff != "" {
		t.Fatal(diff)
	}
	for _, o := range orders {
		written, err := o.YAML()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse([]byte(written), start)
		if err != nil {
			t.Fatalf("%s: %v", written, err)
		}
		again[0].ID = o.ID
		if diff := cmp.Diff(o, again[0]); diff != "" {
			t.Error(diff)
		}
	}
}

func TestDocumentsAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                               "no document",
		"# nothing\n---\n":               "no document",
		"kind: queue\n":                  "kind: want tap",
		"kind: tap\nwhom: x\n":           "unknown field",
		"kind: tap\nwho: [{to: x}]\n":    "unknown field",
		"kind: tap\nuntil: tomorrow\n":   `until: "tomorrow": want a time`,
		"kind: tap\nfrom: 30d\n":         `from: "30d": want a time`,
		"kind: [":                        "document 1",
		strings.Repeat("[", 100):         "nested too deeply",
		strings.Repeat("- ", 100) + "x":  "nested too deeply",
		strings.Repeat(" ", 1<<20) + "x": "longer than",
	} {
		if _, err := Parse([]byte(text), start); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %s", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("kind: tap\nreference: 1\nwho: [{domain: .acme.example}]\nwhat: full\nuntil: 2026-04-01\nsink: file:/x\n"))
	f.Add([]byte("kind: tap\nwho: &a [*a]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		orders, err := Parse(text, start)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("%v", err)
			}
			return
		}
		for _, o := range orders {
			canonical, err := o.Canonical()
			if err != nil {
				t.Fatal(err)
			}
			again, err := Decode(canonical)
			if err != nil {
				t.Fatalf("%s: %v", canonical, err)
			}
			if diff := cmp.Diff(o, again); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}
