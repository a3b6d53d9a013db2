package order

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"qstream/qmail"
)

func TestImport(t *testing.T) {
	for _, c := range []struct {
		name, text string
		who        []Rule
		warnings   []string // parts, in this order
	}{
		{"anchored", `T:^bob@acme\.example$:law@hub.example`, []Rule{{Recipient: "bob@acme.example"}}, nil},
		{"unanchored", `T:bob@acme\.example:law@hub.example`, []Rule{{Recipient: "bob@acme.example"}}, []string{
			"its beginning: it fit evil-bob@acme.example as well", "its end: it fit bob@acme.example.evil.example as well"}},
		{"whole domain", `F:.*@dom.com:law@hub.example`, []Rule{{Sender: "*@dom.com"}}, []string{
			"a dot without a backslash is any character: it fit x@domxcom as well", "its end: it fit x@dom.com.evil.example as well"}},
		{"either", `A:^bob@acme\.example$:law@hub.example`, []Rule{{Sender: "bob@acme.example"}, {Recipient: "bob@acme.example"}}, nil},
		{"older", `^bob@acme\.example$:law@hub.example`, []Rule{{Sender: "bob@acme.example"}, {Recipient: "bob@acme.example"}}, []string{"it has no kind"}},
		{"alternatives", `T:^(ann|bob)@acme\.example$:law@hub.example`, []Rule{{Recipient: "ann@acme.example"}, {Recipient: "bob@acme.example"}}, nil},
		{"a class", `T:^bob[12]@acme[.]example$:law@hub.example`, []Rule{{Recipient: "bob1@acme.example"}, {Recipient: "bob2@acme.example"}}, nil},
		{"optional", `T:^bobb?@acme\.example$:law@hub.example`, []Rule{{Recipient: "bob@acme.example"}, {Recipient: "bobb@acme.example"}}, nil},
		{"a part of a local part", `T:^bob.*@acme\.example$:law@hub.example`, []Rule{{Recipient: "bob*@acme.example"}}, nil},
		{"subdomains", `T:^.*@.*\.acme\.example$:law@hub.example`, []Rule{{Recipient: "*@*.acme.example"}}, nil},
		{"a star before a domain", `T:^.*@.*acme\.example$:law@hub.example`, []Rule{{Recipient: "*@acme.example"}}, []string{"a * before a domain's name is left out"}},
		{"a bare domain", `T:acme\.example:law@hub.example`, []Rule{{Recipient: "*@acme.example"}}, []string{
			"its beginning", "its end", "it names no local part"}},
		{"a bare name", `T:^bob:law@hub.example`, []Rule{{Recipient: "bob@*"}}, []string{"it names no domain"}},
		{"everything", `A:.*:law@hub.example`, nil, []string{"names no addresses that an order can name"}},
		{"negated", `T:!@acme\.example$:law@hub.example`, nil, []string{"it copied all mail that the pattern does not fit"}},
		{"broken", `T:bob(@acme.example:law@hub.example`, nil, []string{"it copied nothing, in silence"}},
		{"broken and negated", `T:!bob(@acme.example:law@hub.example`, nil, []string{"it copied every message in silence"}},
		{"what addresses can't say", `T:^[a-z]+@acme\.example$:law@hub.example`, nil, []string{"can't be said by addresses with *"}},
		{"too many", `T:^[a-z][a-z]@acme\.example$:law@hub.example`, nil, []string{"it stands for too many"}},
		{"a star that means itself", `T:^b\*b@acme\.example$:law@hub.example`, nil, []string{"a star that means itself"}},
	} {
		taps, err := qmail.ParseTaps(c.text)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		d := Import(taps)[0]
		if diff := cmp.Diff(c.who, d.Who); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
		ok := len(d.Warnings) == len(c.warnings)
		for i, w := range c.warnings {
			ok = ok && strings.Contains(d.Warnings[i], w)
		}
		if !ok {
			t.Errorf("%s: warnings %q, want %q", c.name, d.Warnings, c.warnings)
		}
	}
}

// Of lines that fit the same only the first did anything.
func TestImportTellsShadows(t *testing.T) {
	taps, err := qmail.ParseTaps("F:^.*@acme\\.example$:1@x\nT:^.*@acme\\.example$:2@x\nT:^bob@acme\\.example$:3@x\nA:^ann@b\\.example$:4@x\nT:^ann@b\\.example$:5@x")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"", "", "line 2 fit what it fits, such as bob@acme.example", "", "line 4 fit what it fits, such as ann@b.example"}
	for i, d := range Import(taps) {
		if got := strings.Join(d.Warnings, "\n"); !strings.HasPrefix(got, want[i]) || (got == "") != (want[i] == "") {
			t.Errorf("line %d: %q, want %q", i+1, got, want[i])
		}
	}
}

// A draft is no order until a person has completed it.
func TestDraftsAreNoOrders(t *testing.T) {
	taps, err := qmail.ParseTaps("T:bob@acme\\.example:law@hub.example\nT:!x:law@hub.example")
	if err != nil {
		t.Fatal(err)
	}
	drafts := Import(taps)
	text := drafts[0].YAML()
	if _, err := Parse([]byte(text), start); !errors.Is(err, ErrInvalid) {
		t.Errorf("the draft is taken as it is: %v", err)
	}
	filled := strings.NewReplacer(`reference: ""`, "reference: 12 Gs 345/26", `from: ""`, "from: 2026-03-02", `until: ""`, "until: 2026-04-01").Replace(text)
	orders, err := Parse([]byte(filled), start)
	if err != nil {
		t.Fatalf("%s: %v", filled, err)
	}
	if o := orders[0]; o.Sink != "smtp://hub.example to=law@hub.example" || o.Who[0].Recipient != "bob@acme.example" {
		t.Errorf("%+v", o)
	}
	if text := drafts[1].YAML(); strings.Contains(text, "kind:") || !strings.Contains(text, "# WARNING: it copied all mail") {
		t.Error(text)
	}
}

func FuzzImport(f *testing.F) {
	f.Add("F:.*@dom.com:law@hub.example\nT:(a|b)?[xy]@z\\.example$:c@d.example")
	f.Fuzz(func(t *testing.T, text string) {
		taps, err := qmail.ParseTaps(text)
		if err != nil {
			return
		}
		for i, d := range Import(taps) {
			if len(d.Who) > 0 {
				if _, err := completeRules(d.Who); err != nil && len(d.Who) <= MaxRules {
					t.Fatalf("line %d: %+v: %v", i, d, err)
				}
			}
			d.YAML()
		}
	})
}
