package resolver_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"qstream/mail"
	"qstream/test/fakedns"
	"qstream/transport/resolver"
)

func TestRecords(t *testing.T) {
	s, err := fakedns.Start(`
txt.example.   60 TXT "v=spf1 " "-all"
txt.example.   60 TXT "a \\ \"b\" \009c"
alias.example. 60 CNAME txt.example.
mx.example.    60 MX 10 mx1.mx.example.
mx.example.    60 MX 0 .
host.example.  60 A 192.0.2.1
host.example.  60 AAAA 2001:db8::1
1.2.0.192.in-addr.arpa. 60 PTR host.example.
1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. 60 PTR six.example.
`)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	r := newResolver(t, resolver.Config{Servers: []string{s.Addr()}})
	ctx := t.Context()
	for _, tt := range []struct {
		name string
		ask  func() (any, error)
		want string // %q of the answer, or the status
	}{
		{"joined and unescaped", func() (any, error) { return r.TXT(ctx, "TXT.example.") }, `["v=spf1 -all" "a \\ \"b\" \tc"]`},
		{"by alias", func() (any, error) { return r.TXT(ctx, "alias.example") }, `["v=spf1 -all" "a \\ \"b\" \tc"]`},
		{"none of the type", func() (any, error) { return r.TXT(ctx, "host.example") }, `[]`},
		{"no such name", func() (any, error) { return r.TXT(ctx, "nowhere.example") }, "5.1.2"},
		{"not a name", func() (any, error) { return r.TXT(ctx, "a..example") }, "5.1.2"},
		{"empty name", func() (any, error) { return r.TXT(ctx, "") }, "5.1.2"},
		{"a label too long", func() (any, error) { return r.TXT(ctx, strings.Repeat("a", 64)+".example") }, "5.1.2"},
		{"trouble", func() (any, error) { return r.TXT(ctx, "servfail.example") }, "4.4.3"},
		{"mx", func() (any, error) { return r.MX(ctx, "mx.example") }, `[{"mx1.mx.example" '\n'} {"" '\x00'}]`},
		{"v4", func() (any, error) { return r.IPv4(ctx, "host.example") }, `["192.0.2.1"]`},
		{"v6", func() (any, error) { return r.IPv6(ctx, "host.example") }, `["2001:db8::1"]`},
		{"reverse", func() (any, error) { return r.Names(ctx, netip.MustParseAddr("::ffff:192.0.2.1")) }, `["host.example"]`},
		{"reverse v6", func() (any, error) { return r.Names(ctx, netip.MustParseAddr("2001:db8::1")) }, `["six.example"]`},
		{"reverse nobody", func() (any, error) { return r.Names(ctx, netip.MustParseAddr("192.0.2.9")) }, "5.1.2"},
		{"reverse of nothing", func() (any, error) { return r.Names(ctx, netip.Addr{}) }, "5.1.2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v, err := tt.ask()
			got := fmt.Sprintf("%q", v)
			var status mail.Status
			if errors.As(err, &status) {
				got = status.Enhanced
			}
			if got != tt.want {
				t.Errorf("got %s (%v), want %s", got, err, tt.want)
			}
		})
	}
}

// TestLargeTextIsNotKept: what anybody may publish must not fill the memory.
func TestLargeTextIsNotKept(t *testing.T) {
	long := strings.TrimSuffix(strings.Repeat(`"`+strings.Repeat("x", 250)+`" `, 17), " ")
	s, err := fakedns.Start("cut.large.example. 60 TXT " + long + "\nsmall.example. 60 TXT \"x\"\n")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	r := newResolver(t, resolver.Config{Servers: []string{s.Addr()}})
	for name, want := range map[string]int64{"cut.large.example": 4, "small.example": 1} {
		before := s.Asked()
		for range 2 {
			if texts, err := r.TXT(t.Context(), name); err != nil || len(texts) != 1 {
				t.Fatalf("%d texts, %v", len(texts), err)
			}
		}
		if got := s.Asked() - before; got != want {
			t.Errorf("%s: %d questions, want %d", name, got, want)
		}
	}
}
