package qmail

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func parsed(t testing.TB, text string) *Rules {
	t.Helper()
	rs, err := ParseRules(text)
	if err != nil {
		t.Fatalf("%s\n%s", err, text)
	}
	return rs
}

// TestFind has the examples of tcprules' manual and the whole search order.
func TestFind(t *testing.T) {
	const everything = `joe@192.0.2.7:allow,N="info ip"
joe@=mail.acme.example:allow,N="info host"
192.0.2.7:allow,N="ip"
=mail.acme.example:allow,N="host"
192.0.2.:allow,N="three"
192.0.:allow,N="two"
192.:allow,N="one"
192.0.2.0/25:allow,N="long"
192.0.0.0/14:allow,N="short"
=.acme.example:allow,N="suffix"
=.example:allow,N="top"
=:allow,N="named"
:deny,N="all"
`
	order := []string{"info ip", "info host", "ip", "host", "three", "two", "one", "long", "short", "suffix", "top", "named", "all"}
	lines := strings.Split(everything, "\n")
	c := Client{IP: netip.MustParseAddr("192.0.2.7"), Name: "Mail.Acme.Example.", Info: "joe"}
	for i, want := range order {
		r, ok := parsed(t, strings.Join(lines[i:], "\n")).Find(c)
		if !ok || r.Env["N"] != want || r.Line != 1 || r.Deny != (want == "all") {
			t.Errorf("from line %d: %+v %v, want %s", i+1, r, ok, want)
		}
		// The order of the text doesn't count.
		back := slices.Clone(lines[i : len(lines)-1])
		slices.Reverse(back)
		if r, _ := parsed(t, strings.Join(back, "\n")).Find(c); r.Env["N"] != want {
			t.Errorf("backwards from line %d: %+v, want %s", i+1, r, want)
		}
	}
}

func TestFindCases(t *testing.T) {
	manual := "joe@127.0.0.1:allow,N=\"1\"\n18.23.0.32:allow,N=\"2\"\n:allow,N=\"3\"\n127.:allow,N=\"4\"\n"
	for _, c := range []struct {
		name, text, ip, host, info string
		want                       string // pattern, "none" without a rule
		line                       int
	}{
		{"manual: all", manual, "10.119.75.38", "", "", "", 3},
		{"manual: ip", manual, "18.23.0.32", "", "", "18.23.0.32", 2},
		{"manual: network", manual, "127.0.0.1", "", "bill", "127.", 4},
		{"manual: info", manual, "127.0.0.1", "", "joe", "joe@127.0.0.1", 1},
		{"no rule", "192.0.2.1:deny", "192.0.2.2", "", "", "none", 0},
		{"empty text", "", "192.0.2.2", "", "", "none", 0},
		{"range, lowest", "192.0.2.37-53:deny", "192.0.2.37", "", "", "192.0.2.37-53", 1},
		{"range, highest", "192.0.2.37-53:deny", "192.0.2.53", "", "", "192.0.2.37-53", 1},
		{"range, beyond", "192.0.2.37-53:deny", "192.0.2.54", "", "", "none", 0},
		{"range of networks", "10.2-3.:deny", "10.3.9.9", "", "", "10.2-3.", 1},
		{"range cut at 255", "10.250-999.:deny", "10.255.9.9", "", "", "10.250-999.", 1},
		{"range before networks", "192.0.2.1-9:allow\n192.0.2.:deny", "192.0.2.5", "", "", "192.0.2.1-9", 1},
		{"first of equals", "192.0.2.1:deny\n192.0.2.1:allow", "192.0.2.1", "", "", "192.0.2.1", 1},
		{"first of range and address", "192.0.2.0-5:deny\n192.0.2.1:allow", "192.0.2.1", "", "", "192.0.2.0-5", 1},
		{"CIDR, longest", "10.0.0.0/8:deny\n10.1.0.0/16:allow", "10.1.2.3", "", "", "10.1.0.0/16", 2},
		{"CIDR, cut short", "127.0/8:allow\n:deny", "127.9.9.9", "", "", "127.0/8", 1},
		{"CIDR, cut at a dot", "127./8:allow\n:deny", "127.9.9.9", "", "", "127./8", 1},
		{"CIDR, bits behind the prefix", "10.1.2.3/8:allow\n:deny", "10.9.9.9", "", "", "10.1.2.3/8", 1},
		{"CIDR of everything", "0.0.0.0/0:deny", "192.0.2.1", "", "", "0.0.0.0/0", 1},
		{"dots before CIDR", "10.:allow\n10.1.0.0/16:deny", "10.1.2.3", "", "", "10.", 1},
		{"CIDR before host ends", "10.1.0.0/16:deny\n=.example:allow", "10.1.2.3", "a.example", "", "10.1.0.0/16", 1},
		{"host before dots", "10.:deny\n=a.example:allow", "10.1.2.3", "a.example", "", "=a.example", 2},
		{"host end isn't the host", "=.a.example:deny", "10.1.2.3", "a.example", "", "none", 0},
		{"any name", "=:deny", "10.1.2.3", "a.example", "", "=", 1},
		{"no name", "=:deny", "10.1.2.3", "", "", "none", 0},
		{"name in upper case", "=A.Example:deny", "10.1.2.3", "a.example", "", "=A.Example", 1},
		{"info and host", "joe@=a.example:deny", "10.1.2.3", "a.example", "joe", "joe@=a.example", 1},
		{"info and host, other info", "joe@=a.example:deny", "10.1.2.3", "a.example", "bill", "none", 0},
		{"info is exact", "Joe@10.1.2.3:deny", "10.1.2.3", "", "joe", "none", 0},
		{"info with an equals sign", "a=b@10.1.2.3:deny", "10.1.2.3", "", "a=b", "a=b@10.1.2.3", 1},
		{"IPv6", "2001:db8:0:0::1:deny", "2001:db8::1", "", "", "2001:db8:0:0::1", 1},
		{"IPv6 network", "2001:db8::/48:deny", "2001:db8:0:1::1", "", "", "2001:db8::/48", 1},
		{"IPv6 network, outside", "2001:db8::/48:deny", "2001:db8:1::1", "", "", "none", 0},
		{"IPv6 network, longest", "2001:db8::/32:deny\n2001:db8:a::/48:allow", "2001:db8:a::1", "", "", "2001:db8:a::/48", 2},
		{"IPv6 with info", "joe@2001:DB8::0001:deny", "2001:db8::1", "", "joe", "joe@2001:DB8::0001", 1},
		{"IPv6 without an address", "::/0:deny", "2001:db8::1", "", "", "::/0", 1},
		{"IPv4 mapped", "192.0.2.1:deny", "::ffff:192.0.2.1", "", "", "192.0.2.1", 1},
		{"families apart", "0.0.0.0/0:deny", "2001:db8::1", "", "", "none", 0},
		{"zone", "fe80::1:deny", "fe80::1%eth0", "", "", "fe80::1", 1},
		{"comments and blanks", "# :deny\n\n \t\n192.0.2.1:deny \t\n", "192.0.2.1", "", "", "192.0.2.1", 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := Client{IP: netip.MustParseAddr(c.ip), Name: c.host, Info: c.info}
			r, ok := parsed(t, c.text).Find(client)
			if want := c.want != "none"; ok != want || ok && (r.Pattern != c.want || r.Line != c.line) {
				t.Errorf("%+v, %v; want %q of line %d", r, ok, c.want, c.line)
			}
		})
	}
}

func TestVariables(t *testing.T) {
	for _, c := range []struct {
		text  string
		env   map[string]string
		unset []string
	}{
		{`:allow`, nil, nil},
		{`:allow,RELAYCLIENT=""`, map[string]string{"RELAYCLIENT": ""}, nil},
		{`:allow,RELAYCLIENT=/@fix.me/,B="2"`, map[string]string{"RELAYCLIENT": "@fix.me", "B": "2"}, nil},
		{`:allow,A='x,B="y"',C=z,z`, map[string]string{"A": `x,B="y"`, "C": ","}, nil},
		{`:allow,A=\n\`, map[string]string{"A": "n"}, nil}, // a backslash is a character like others
		{`:allow,A="\n"`, map[string]string{"A": `\n`}, nil},
		{`:allow,A=" :deny# "`, map[string]string{"A": " :deny# "}, nil},
		{`:allow,A="1",A="2"`, map[string]string{"A": "2"}, nil},
		{`:allow,!A`, nil, []string{"A"}},
		{`:allow,!A,B="1",!C`, map[string]string{"B": "1"}, []string{"A", "C"}},
		{`:allow,A="1",!A`, nil, []string{"A"}},
		{`:allow,!A,A="1"`, map[string]string{"A": "1"}, nil},
	} {
		r, _ := parsed(t, c.text).Find(Client{IP: netip.MustParseAddr("192.0.2.1")})
		if !maps.Equal(r.Env, c.env) || !slices.Equal(r.Unset, c.unset) {
			t.Errorf("%s: %v, without %v", c.text, r.Env, r.Unset)
		}
	}
	r := Rule{Env: map[string]string{"A": "1"}, Unset: []string{"B"}}
	base := map[string]string{"A": "0", "B": "0", "C": "0"}
	if got := r.Over(base); !maps.Equal(got, map[string]string{"A": "1", "C": "0"}) || len(base) != 3 {
		t.Errorf("over: %v", got)
	}
}

func TestRefused(t *testing.T) {
	for _, line := range []string{
		"nothing", "192.0.2.1", ":", "192.0.2.1:permit", ":allowed", ":allow ,A=\"1\"", ":allow,", ":allow,A", `:allow,A=`,
		`:allow,A="1`, `:allow,="1"`, `:allow,A B="1"`, `:allow,A="1"x`, `:allow,!`, `:allow,1A="1"`, ":allow,A=\u201cx\u201c",
		" 192.0.2.1:deny", "192.0.2:deny", "192.0.2.1.:deny", "192.0.2.256:deny", "192.0.2.01:deny", "host.example:deny",
		"10.0.0.0/33:deny", "10.0.0.0/:deny", "2001:db8::/129:deny", "2001:db8:deny", "fe80::1%eth0:deny",
		"192.0.2.9-3:deny", "192.0.2.x-3:deny", "192.0.2.1-3-5:deny", "192.0.2-3:deny", "1.2.3.4.5-6:deny", "joe@:deny", "joe@10.:deny", "joe@=:deny",
		"joe@=.example:deny", "=a b:deny", "=a/b:deny", "a:\x00:deny",
	} {
		_, err := ParseRules("# first\n:allow\n" + line + "\n")
		var errs LineErrors
		if !errors.As(err, &errs) || len(errs) != 1 || errs[0].Line != 3 {
			t.Errorf("%q: %v", line, err)
		}
	}
	if _, err := ParseRules("a\nb\n:allow\nc\n"); err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("several: %v", err)
	}
	if _, err := ParseRules(strings.Repeat("x\n", 1000)); err == nil || strings.Count(err.Error(), "\n") != maxErrors-1 {
		t.Error("the number of errors has no bound")
	}
	if _, err := ParseRules(manyRanges()); err == nil {
		t.Error("the number of addresses has no bound")
	}
}

// manyRanges is a short text with very many addresses.
func manyRanges() string {
	var b strings.Builder
	for i := range 20 {
		for j := range 255 {
			b.WriteString(netip.AddrFrom4([4]byte{10, byte(i), byte(j), 0}).String() + "-255:deny\n")
		}
	}
	return b.String()
}

// clients are drawn where the rules are.
func clients(t *rapid.T) Client {
	c := Client{IP: rapid.SampledFrom([]netip.Addr{
		netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("10.1.2.4"), netip.MustParseAddr("10.9.9.9"),
		netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8:1::1"),
	}).Draw(t, "ip")}
	c.Name = rapid.SampledFrom([]string{"", "a.example", "b.a.example", "other.test"}).Draw(t, "name")
	c.Info = rapid.SampledFrom([]string{"", "joe", "bill"}).Draw(t, "info")
	return c
}

var someRules = []string{
	"joe@10.1.2.3", "joe@=a.example", "10.1.2.3", "10.1.2.0-3", "=a.example", "10.1.2.", "10.1.", "10.", "192.0.2.0/24",
	"10.1.0.0/16", "10.0.0.0/9", "=.a.example", "=.example", "=", "", "2001:db8::1", "2001:db8::/32", "2001:db8::/48", "joe@2001:db8::1",
}

func TestNeedsName(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var text string
		for _, a := range rapid.SliceOf(rapid.SampledFrom(someRules)).Draw(t, "rules") {
			text += a + ":deny\n"
		}
		rs, err := ParseRules(text)
		if err != nil {
			t.Fatal(err)
		}
		c := clients(t)
		named, ok := rs.Find(c)
		c.Name = ""
		bare, ok2 := rs.Find(c)
		if !rs.NeedsName(c) && (ok != ok2 || named.Line != bare.Line) {
			t.Fatalf("%+v needs its name:\n%s", c, text)
		}
	})
}

// FuzzRules holds that no text breaks the parser, and that what it takes
// comes back: a rule's line says the same alone.
func FuzzRules(f *testing.F) {
	for _, a := range someRules {
		f.Add(a+`:allow,A="b",!C`+"\n:deny\n", "joe", "a.example")
	}
	f.Add("# c\n10.2-3.:deny,A=\xff\xff\n", "", "")
	ip := netip.MustParseAddr("10.1.2.3")
	f.Fuzz(func(t *testing.T, text, info, name string) {
		rs, err := ParseRules(text)
		if err != nil {
			var errs LineErrors
			if !errors.As(err, &errs) || len(errs) == 0 {
				t.Fatal(err)
			}
			return
		}
		c := Client{IP: ip, Info: info, Name: name}
		rs.NeedsName(c)
		r, ok := rs.Find(c)
		if !ok {
			return
		}
		line := strings.Split(text, "\n")[r.Line-1]
		alone, err := ParseRules(line)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if again, ok := alone.Find(c); !ok || again.Pattern != r.Pattern || !maps.Equal(again.Env, r.Env) {
			t.Fatalf("%q: %+v, alone %+v", line, r, again)
		}
	})
}
