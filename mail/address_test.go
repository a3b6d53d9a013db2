package mail

import (
	"errors"
	"strings"
	"testing"
)

func TestParsePath(t *testing.T) {
	long := strings.Repeat("a", MaxLocal)
	for _, tt := range []struct {
		name, in string
		utf8     bool
		want     string // string form
		rest     string
		err      error
	}{
		{name: "plain", in: "<a@acme.example>", want: "a@acme.example"},
		{name: "case kept", in: "<A.b@ACME.Example>", want: "A.b@ACME.Example"},
		{name: "null", in: "<>", want: ""},
		{name: "null with parameters", in: "<> SIZE=1", want: "", rest: " SIZE=1"},
		{name: "parameters", in: "<a@acme.example> SIZE=1 BODY=7BIT", want: "a@acme.example", rest: " SIZE=1 BODY=7BIT"},
		{name: "no brackets", in: "a@acme.example SIZE=1", want: "a@acme.example", rest: " SIZE=1"},
		{name: "source route", in: "<@x.example,@y.example:a@acme.example>", want: "a@acme.example"},
		{name: "quoted needlessly", in: `<"a.b"@acme.example>`, want: "a.b@acme.example"},
		{name: "quoted space", in: `<"a b"@acme.example>`, want: `"a b"@acme.example`},
		{name: "quoted at and bracket", in: `<"a@b>"@acme.example> SIZE=1`, want: `"a@b>"@acme.example`, rest: " SIZE=1"},
		{name: "quoted pair", in: `<"a\"\\b"@acme.example>`, want: `"a\"\\b"@acme.example`},
		{name: "dots", in: "<a..b.@acme.example>", want: `"a..b."@acme.example`},
		{name: "all atext", in: "<!#$%&'*+-/=?^_`{|}~@acme.example>", want: "!#$%&'*+-/=?^_`{|}~@acme.example"},
		{name: "postmaster", in: "<PostMaster>", want: "PostMaster"},
		{name: "IPv4 literal", in: "<a@[192.0.2.1]>", want: "a@[192.0.2.1]"},
		{name: "IPv6 literal", in: "<a@[IPv6:2001:db8::1]>", want: "a@[IPv6:2001:db8::1]"},
		{name: "underscore", in: "<a@my_host.acme.example>", want: "a@my_host.acme.example"},
		{name: "international", in: "<jürg@zürich.example>", utf8: true, want: "jürg@zürich.example"},
		{name: "longest local part", in: "<" + long + "@acme.example>", want: long + "@acme.example"},

		{name: "international unasked", in: "<jürg@acme.example>", err: ErrNotASCII},
		{name: "international domain unasked", in: "<a@zürich.example>", err: ErrNotASCII},
		{name: "broken UTF-8", in: "<a\xff@acme.example>", utf8: true, err: ErrNotASCII},
		{name: "C1 control", in: "<a\u0085@acme.example>", utf8: true, err: ErrAddress},
		{name: "no domain", in: "<a>", err: ErrAddress},
		{name: "empty", in: "", err: ErrAddress},
		{name: "empty local", in: "<@acme.example>", err: ErrAddress},
		{name: "empty quoted local", in: `<""@acme.example>`, err: ErrAddress},
		{name: "empty domain", in: "<a@>", err: ErrAddress},
		{name: "empty label", in: "<a@acme..example>", err: ErrAddress},
		{name: "trailing dot", in: "<a@acme.example.>", err: ErrAddress},
		{name: "hyphen first", in: "<a@-acme.example>", err: ErrAddress},
		{name: "not closed", in: "<a@acme.example", err: ErrAddress},
		{name: "quote not closed", in: `<"a@acme.example>`, err: ErrAddress},
		{name: "quote ends in backslash", in: `<"a\`, err: ErrAddress},
		{name: "control character", in: "<a\x00b@acme.example>", err: ErrAddress},
		{name: "quoted line feed", in: "<\"a\nb\"@acme.example>", err: ErrAddress},
		{name: "space", in: "<a b@acme.example>", err: ErrAddress},
		{name: "garbage behind", in: "<a@acme.example>x", err: ErrAddress},
		{name: "two at", in: "<a@b@acme.example>", err: ErrAddress},
		{name: "bad literal", in: "<a@[192.0.2.1>", err: ErrAddress},
		{name: "untagged IPv6", in: "<a@[2001:db8::1]>", err: ErrAddress},
		{name: "zone", in: "<a@[IPv6:fe80::1%eth0]>", err: ErrAddress},
		{name: "bad source route", in: "<@x.example a@acme.example>", err: ErrAddress},
		{name: "bad IDN", in: "<a@xn--\u00fc.example>", utf8: true, err: ErrAddress},
		{name: "local part too long", in: "<a" + long + "@acme.example>", err: ErrAddress},
		{name: "domain too long", in: "<a@" + strings.Repeat("abcdefg.", 32) + "example>", err: ErrAddress},
		{name: "label too long", in: "<a@" + strings.Repeat("a", 64) + ".example>", err: ErrAddress},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, rest, err := ParsePath(tt.in, tt.utf8)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if a.String() != tt.want || rest != tt.rest {
				t.Errorf("got %q rest %q, want %q rest %q", a, rest, tt.want, tt.rest)
			}
		})
	}
}

func TestDomain(t *testing.T) {
	for in, want := range map[string]string{
		"a@ACME.Example":       "acme.example",
		`"a@b"@acme.example`:   "acme.example",
		"jürg@Zürich.example":  "xn--zrich-kva.example",
		"a@[IPv6:2001:DB8::1]": "[ipv6:2001:db8::1]",
		"":                     "",
		"postmaster":           "",
	} {
		if got := Domain(in); got != want {
			t.Errorf("Domain(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestASCII(t *testing.T) {
	for in, want := range map[string]string{
		"a@acme.example":   "a@acme.example",
		"a@zürich.example": "a@xn--zrich-kva.example",
		"ü@acme.example":   "",
	} {
		a, err := ParseAddress(in, true)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := a.ASCII()
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("%q: got %q, %v", in, got, ok)
		}
	}
}

// What ParsePath accepts can be written and read again, unchanged.
func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"<a@acme.example> SIZE=1", "<>", `<"a\"@b"@[192.0.2.1]>`, "<@x:ü@zürich.example>", "Postmaster", "<a..@[IPv6:::1]>"} {
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, s string, intl bool) {
		a, _, err := ParsePath(s, intl)
		if err != nil {
			return
		}
		again, err := ParseAddress(a.String(), intl)
		if err != nil || again != a {
			t.Fatalf("%q became %q, then %q: %v", s, a, again, err)
		}
		if Printable(a.String()) != a.String() {
			t.Fatalf("%q holds unprintable characters", a)
		}
	})
}
