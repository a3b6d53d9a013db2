package qmail

import (
	"errors"
	"net/netip"
	"testing"
)

const senderRules = `# who may be whom
jsmith@virtual.example&john.smith@virtual.example
joe@192.0.2.32&joe@acme.example
ann@=desk.acme.example&ann@acme.example
192.0.2.32&box@acme.example
198.51.100.&@acme.example
203.0.113.4-6&range@acme.example
=.heaven.example&god@heaven.example,@angels.heaven.example,-lucifer@angels.heaven.example
=desk.acme.example&
2001:db8:&six@acme.example
=&named@acme.example
`

func TestSenderRules(t *testing.T) {
	rules, err := ParseSenderRules(senderRules)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		user, ip, name, address string
		want                    bool
	}{
		{"jsmith@virtual.example", "192.0.2.1", "", "John.Smith@virtual.example", true},
		{"jsmith@virtual.example", "192.0.2.1", "", "other@virtual.example", false},
		{"joe", "192.0.2.32", "", "joe@acme.example", true},
		{"joe", "192.0.2.33", "", "joe@acme.example", false},
		{"joe", "192.0.2.32", "", "box@acme.example", true}, // falls through to the address
		{"ann", "192.0.2.1", "desk.acme.example", "ann@acme.example", true},
		{"", "192.0.2.1", "desk.acme.example", "anybody@else.example", true},
		{"", "198.51.100.7", "", "x@acme.example", true},
		{"", "::ffff:198.51.100.7", "", "x@acme.example", true},
		{"", "198.51.100.7", "", "x@sub.acme.example", false},
		{"", "203.0.113.5", "", "range@acme.example", true},
		{"", "203.0.113.7", "", "range@acme.example", false},
		{"", "192.0.2.1", "a.heaven.example", "god@heaven.example", true},
		{"", "192.0.2.1", "a.heaven.example", "gabriel@angels.heaven.example", true},
		{"", "192.0.2.1", "a.heaven.example", "lucifer@angels.heaven.example", false},
		{"", "2001:db8::7", "", "six@acme.example", true},
		{"", "2001:db9::7", "", "six@acme.example", false},
		{"", "192.0.2.1", "any.example", "named@acme.example", true},
		{"", "192.0.2.1", "", "named@acme.example", false},
	} {
		c := Submitter{IP: netip.MustParseAddr(tt.ip), Name: tt.name, User: tt.user}
		if got := rules.Admits(c, tt.address); got != tt.want {
			t.Errorf("%+v as %s: %v", c, tt.address, got)
		}
	}
}

func TestSenderRulesErrors(t *testing.T) {
	for _, text := range []string{"x", "&a@b.example", "\n18.23&a@b.example", "192.0.2.1&a b@c.example", "192.0.2.1&ab", "192.0.2.9-1&a@b", "192.0.2.1-999&a@b", "1.2.3.4&a@b,,c@d"} {
		_, err := ParseSenderRules(text)
		var at *LineError
		if !errors.As(err, &at) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzSenderRules(f *testing.F) {
	f.Add(senderRules, "a@b")
	f.Add("1-2-3&@@@", "@")
	f.Fuzz(func(t *testing.T, text, address string) {
		rules, err := ParseSenderRules(text)
		if err == nil {
			rules.Admits(Submitter{IP: netip.AddrFrom4([4]byte{192, 0, 2, 1}), Name: "x.example"}, address)
		}
	})
}
