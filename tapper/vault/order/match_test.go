package order

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"qstream/mail"
)

// approved is a tap of an order that is in force from start on.
func approved(o Order) *Tap {
	done, err := o.Complete()
	if err != nil {
		panic(err)
	}
	return &Tap{Order: done, Requested: Decision{"ann", start}, Approved: Decision{"bob", start}}
}

func owner(domain string) string {
	switch {
	case domain == "acme.example" || strings.HasSuffix(domain, ".acme.example"):
		return "acme"
	case domain == "b.example":
		return "b"
	}
	return ""
}

func TestMatch(t *testing.T) {
	to := func(rs ...string) Message { return Message{ReversePath: "ann@b.example", Recipients: rs, Owner: owner} }
	from := func(p string) Message {
		return Message{ReversePath: p, Recipients: []string{"x@c.example", "y@d.example"}, Owner: owner}
	}
	for _, c := range []struct {
		name string
		rule Rule
		msg  Message
		want []int
	}{
		{"recipient", Rule{Recipient: "bob@acme.example"}, to("x@acme.example", "bob@acme.example", "bob@b.example"), []int{1}},
		{"twice", Rule{Recipient: "bob@acme.example"}, to("bob@acme.example", "x@y.example", "BOB@Acme.Example"), []int{0, 2}},
		{"case of the rule", Rule{Recipient: "BOB@ACME.example"}, to("bob@acme.example"), []int{0}},
		{"other letters' case", Rule{Recipient: "ÄNNE@acme.example"}, to("änne@acme.example"), []int{0}},
		{"kelvin", Rule{Recipient: "kim@acme.example"}, to("\u212aim@acme.example"), []int{0}},
		{"anchored", Rule{Recipient: "bob@acme.example"}, to("bob@acme.example.evil.example", "evil-bob@acme.example", "bob@xacme.example", "bob@acmexexample.example"), nil},
		{"a dot is a dot", Rule{Recipient: "b.b@acme.example"}, to("bxb@acme.example"), nil},
		{"quoted needlessly", Rule{Recipient: "bob@acme.example"}, to(`"bob"@acme.example`), []int{0}},
		{"quoted", Rule{Recipient: `"bob s"@acme.example`}, to(`"bob s"@acme.example`, "bob@acme.example"), []int{0}},
		{"quoted at", Rule{Recipient: "*@acme.example"}, to(`"a@b.example"@acme.example`, `"a@acme.example"@b.example`), []int{0}},
		{"A-labels", Rule{Recipient: "bob@bücher.example"}, to("bob@XN--bcher-kva.example", "bob@Bücher.example"), []int{0, 1}},
		{"star", Rule{Recipient: "bob-*@acme.example"}, to("bob@acme.example", "bob-@acme.example", "BOB-x-y@acme.example", "bob-x@b.example"), []int{1, 2}},
		{"stars", Rule{Recipient: "*b*b*@acme.example"}, to("bob@acme.example", "abba@acme.example", "b@acme.example"), []int{0, 1}},
		{"below", Rule{Recipient: "bob@*.acme.example"}, to("bob@acme.example", "bob@a.acme.example", "bob@a.b.acme.example", "bob@xacme.example"), []int{1, 2}},
		{"in any domain", Rule{Recipient: "bob@*"}, to("bob@acme.example", "bob@c.example", "bobx@c.example", "postmaster"), []int{0, 1}},
		{"star in any domain", Rule{Recipient: "b*@*"}, to("bob@acme.example", "ann@c.example", "bx@c.example"), []int{0, 2}},
		{"postmaster", Rule{Recipient: "postmaster"}, to("Postmaster", "postmaster@acme.example"), []int{0}},
		{"literal", Rule{Recipient: "bob@[192.0.2.1]"}, to("bob@[192.0.2.1]"), []int{0}},
		{"sender names all", Rule{Sender: "bob@acme.example"}, from("Bob@acme.example"), []int{0, 1}},
		{"sender, star", Rule{Sender: "*@acme.example"}, from("bob@acme.example"), []int{0, 1}},
		{"sender in any domain", Rule{Sender: "bob@*"}, from("bob@acme.example"), []int{0, 1}},
		{"sender, star in any domain", Rule{Sender: "b*@*"}, from("bob@acme.example"), []int{0, 1}},
		{"null sender", Rule{Sender: "<>"}, from(""), []int{0, 1}},
		{"null sender only", Rule{Sender: "<>"}, from("a@b.example"), nil},
		{"no star for null", Rule{Sender: "*@acme.example"}, from(""), nil},
		{"another sender", Rule{Sender: "bob@acme.example"}, from("bob@acme.example.evil.example"), nil},
		{"domain of a recipient", Rule{Domain: "acme.example"}, to("x@acme.example", "y@a.acme.example", "z@c.example"), []int{0}},
		{"domain of the sender", Rule{Domain: "b.example"}, to("x@acme.example", "z@c.example"), []int{0, 1}},
		{"below a domain", Rule{Domain: ".acme.example"}, to("x@acme.example", "y@a.acme.example"), []int{1}},
		{"tenant of a recipient", Rule{Tenant: "acme"}, to("x@acme.example", "y@a.acme.example", "z@c.example"), []int{0, 1}},
		{"tenant that submits", Rule{Tenant: "acme"}, Message{ReversePath: "x@c.example", Recipients: []string{"y@d.example"}, Tenant: "acme"}, []int{0}},
		{"another tenant", Rule{Tenant: "acme"}, to("z@b.example"), nil},
		{"sender and recipient", Rule{Sender: "ann@b.example", Recipient: "bob@*"}, to("bob@c.example", "x@c.example"), []int{0}},
		{"sender but another recipient", Rule{Sender: "ann@b.example", Recipient: "bob@c.example"}, to("x@c.example"), nil},
		{"recipient but another sender", Rule{Sender: "ann@c.example", Recipient: "bob@c.example"}, to("bob@c.example"), nil},
		{"sender and tenant", Rule{Sender: "*@b.example", Tenant: "acme"}, to("x@acme.example", "x@c.example"), []int{0}},
		{"null to a domain", Rule{Sender: "<>", Domain: "acme.example"}, Message{Recipients: []string{"x@acme.example", "x@c.example"}}, []int{0}},
		{"null to a local part", Rule{Sender: "<>", Recipient: "bob@*"}, Message{Recipients: []string{"x@acme.example", "bob@c.example"}}, []int{1}},
	} {
		m := Compile([]*Tap{approved(sample(newID(), c.rule))})
		var got []int
		for _, match := range m.Match(c.msg, start) {
			got = match.Recipients
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

// Several orders on one message are several matches, each with its own
// recipients.
func TestSeveralOrders(t *testing.T) {
	a := approved(sample(newID(), Rule{Recipient: "bob@acme.example"}, Rule{Recipient: "*@acme.example"}))
	b := approved(sample(newID(), Rule{Domain: "b.example"}))
	c := approved(sample(newID(), Rule{Recipient: "eve@c.example"}))
	d := approved(sample(newID(), Rule{Sender: "zoe@d.example"}, Rule{Recipient: "ann@b.example"}))
	unapproved := approved(sample(newID(), Rule{Recipient: "bob@acme.example"}))
	unapproved.Approved = Decision{}
	m := Compile([]*Tap{a, b, c, d, unapproved})
	got := m.Match(Message{ReversePath: "x@y.example", Recipients: []string{"bob@acme.example", "ann@b.example", "tom@acme.example"}}, start)
	want := []Match{{a, []int{0, 2}}, {b, []int{1}}, {d, []int{1}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Live and retroactive matching share out a window at the approval.
func TestRetro(t *testing.T) {
	past := sample(newID())
	past.From, past.Retro = start.Add(-24*time.Hour), true
	retro := approved(past)
	past.ID, past.Retro = newID(), false
	plain := approved(past)
	m := Compile([]*Tap{retro, plain})
	msg := Message{Recipients: []string{"bob@acme.example"}}
	for _, c := range []struct {
		at         time.Duration
		live, past int
	}{{-25 * time.Hour, 0, 0}, {-24 * time.Hour, 0, 1}, {-1, 0, 1}, {0, 2, 0}, {30*24*time.Hour - 1, 2, 0}, {30 * 24 * time.Hour, 0, 0}} {
		at := start.Add(c.at)
		if live, past := len(m.Match(msg, at)), len(m.MatchPast(msg, at)); live != c.live || past != c.past {
			t.Errorf("at %v: %d as it arrives, %d afterwards", c.at, live, past)
		}
	}
}

// naive is what matching means: no index, nothing compiled.
func naive(taps []*Tap, msg Message, at time.Time) (matches []Match) {
	address := func(p, a string) bool {
		switch {
		case p == "<>" || a == "":
			return p == "<>" && a == ""
		case !strings.Contains(a, "@") || !strings.Contains(p, "@"):
			return strings.EqualFold(p, a)
		}
		cut := func(s string) (string, string) {
			i := strings.LastIndexByte(s, '@')
			a, err := mail.ParseAddress(s[:i]+"@x.example", true)
			if err != nil {
				panic(err)
			}
			return a.Local, s[i+1:]
		}
		pl, pd := cut(p)
		al, ad := cut(a)
		return stars(strings.ToLower(pl), strings.ToLower(al)) && stars(pd, mail.NormalDomain(ad))
	}
	for _, t := range taps {
		var of []int
		for i, rcpt := range msg.Recipients {
			fits := false
			for _, r := range t.Order.Who {
				sd, rd := mail.Domain(msg.ReversePath), mail.Domain(rcpt)
				fits = fits || (r.Sender == "" || address(r.Sender, msg.ReversePath)) &&
					(r.Recipient == "" || address(r.Recipient, rcpt)) &&
					(r.Domain == "" || sd != "" && stars(r.Domain, sd) || rd != "" && stars(r.Domain, rd)) &&
					(r.Tenant == "" || msg.Tenant == r.Tenant || rd != "" && msg.Owner(rd) == r.Tenant)
			}
			if fits {
				of = append(of, i)
			}
		}
		if len(of) > 0 && t.Covers(at) {
			matches = append(matches, Match{t, of})
		}
	}
	return matches
}

// stars matches by trying every way.
func stars(pattern, text string) bool {
	if pattern == "" {
		return text == ""
	}
	if pattern[0] != '*' {
		return text != "" && pattern[0] == text[0] && stars(pattern[1:], text[1:])
	}
	for i := range len(text) + 1 {
		if stars(pattern[1:], text[i:]) {
			return true
		}
	}
	return false
}

func TestMatcherAgreesWithASearch(t *testing.T) {
	local := rapid.StringMatching(`[abAB.]{1,3}|\*|a\*|\*b\*`)
	plainLocal := rapid.StringMatching(`[abAB]{1,4}`)
	domain := rapid.SampledFrom([]string{"a.example", "b.a.example", "c.b.a.example", "B.example", "ab.example"})
	domainRule := rapid.OneOf(domain, rapid.SampledFrom([]string{"*.a.example", "*.example", ".b.a.example", "*"}))
	optional := func(r *rapid.T, g *rapid.Generator[string], name string) string {
		if rapid.IntRange(0, 2).Draw(r, name) > 0 {
			return ""
		}
		return g.Draw(r, name)
	}
	pattern := rapid.OneOf(
		rapid.Custom(func(r *rapid.T) string { return local.Draw(r, "local") + "@" + domainRule.Draw(r, "domain") }),
		rapid.Just("<>"), rapid.Just("postmaster"))
	address := rapid.OneOf(
		rapid.Custom(func(r *rapid.T) string { return plainLocal.Draw(r, "local") + "@" + domain.Draw(r, "domain") }),
		rapid.SampledFrom([]string{"", "Postmaster", `"a b"@a.example`}))
	rapid.Check(t, func(r *rapid.T) {
		var taps []*Tap
		for range rapid.IntRange(0, 8).Draw(r, "orders") {
			var rules []Rule
			for range rapid.IntRange(1, 3).Draw(r, "rules") {
				rule := Rule{
					Sender: optional(r, pattern, "sender"), Recipient: optional(r, pattern, "recipient"),
					Domain: optional(r, domainRule, "of domain"), Tenant: optional(r, rapid.SampledFrom([]string{"acme", "b"}), "tenant"),
				}
				if _, err := rule.complete(); err == nil {
					rules = append(rules, rule)
				}
			}
			if len(rules) > 0 {
				taps = append(taps, approved(sample(newID(), rules...)))
			}
		}
		msg := Message{ReversePath: address.Draw(r, "from"), Tenant: rapid.SampledFrom([]string{"", "acme", "b"}).Draw(r, "submitter"), Owner: func(d string) string {
			return map[string]string{"a.example": "acme", "b.example": "b"}[d]
		}}
		for range rapid.IntRange(1, 5).Draw(r, "recipients") {
			msg.Recipients = append(msg.Recipients, address.Draw(r, "to"))
		}
		at := start.Add(time.Duration(rapid.IntRange(-1, 31).Draw(r, "days")) * 24 * time.Hour)
		want, got := naive(taps, msg, at), Compile(taps).Match(msg, at)
		if diff := cmp.Diff(len(want), len(got)); diff != "" {
			r.Fatalf("%+v\n%s", msg, diff)
		}
		for i := range want {
			if want[i].Tap != got[i].Tap || !cmp.Equal(want[i].Recipients, got[i].Recipients) {
				r.Fatalf("%+v by %+v: recipients %v, want %v", msg, want[i].Tap.Order.Who, got[i].Recipients, want[i].Recipients)
			}
		}
	})
}

// Rules agree with mail.Pattern where both can say the same.
func FuzzMatch(f *testing.F) {
	f.Add("bob@acme.example", "Bob@ACME.example")
	f.Add("@acme.example", `"a b"@acme.example`)
	f.Add("<>", "")
	f.Add("a*@b.example", "ab@b.example")
	f.Fuzz(func(t *testing.T, rule, address string) {
		r, err := Rule{Sender: rule}.complete()
		if err != nil {
			return
		}
		again, err := r.complete()
		if err != nil || again != r {
			t.Fatalf("%q: %+v, then %+v, %v", rule, r, again, err)
		}
		m := Compile([]*Tap{approved(sample(newID(), r))})
		got := len(m.Match(Message{ReversePath: address, Recipients: []string{"x@y.example"}}, start)) == 1
		a, err := mail.ParseAddress(address, true)
		if err != nil || a.String() != address || strings.Count(r.Sender, "*") > 0 && !strings.HasPrefix(r.Sender, "*@") || strings.Contains(r.Sender, "@*") {
			return
		}
		p, err := mail.ParsePattern(strings.TrimPrefix(r.Sender, "*"))
		if err != nil {
			t.Fatalf("%q: %v", r.Sender, err)
		}
		if want := p.Matches(address); want != got && mail.Domain(address) == mail.Domain(mail.NormalDomain(address)) {
			t.Fatalf("%q on %q: %v, mail.Pattern says %v", r.Sender, address, got, want)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	for _, orders := range []int{0, 100, 10000} {
		var taps []*Tap
		for i := range orders {
			rule := Rule{Recipient: fmt.Sprintf("user%d@tenant%d.example", i, i%500)}
			switch i % 10 {
			case 1:
				rule = Rule{Sender: fmt.Sprintf("user%d@tenant%d.example", i, i%500)}
			case 2:
				rule = Rule{Recipient: fmt.Sprintf("sales-*@t%d.example", i)}
			case 3:
				rule = Rule{Domain: fmt.Sprintf("*.d%d.example", i)}
			case 4:
				rule = Rule{Recipient: fmt.Sprintf("user%d@*", i)}
			}
			taps = append(taps, approved(sample(newID(), rule)))
		}
		m := Compile(taps)
		for name, msg := range map[string]Message{
			"none": {ReversePath: "someone@elsewhere.example", Recipients: []string{"a@tenant7.example"}, Owner: owner},
			"hit":  {ReversePath: "someone@elsewhere.example", Recipients: []string{"user7@tenant7.example", "user10@tenant10.example"}, Owner: owner},
		} {
			b.Run(fmt.Sprintf("%d/%s", orders, name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					m.Match(msg, start)
				}
			})
		}
	}
}
