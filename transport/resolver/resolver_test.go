package resolver_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"qstream/mail"
	"qstream/test/fakedns"
	"qstream/transport/resolver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const zone = `
one.example.        60 MX 10 mx1.one.example.
mx1.one.example.    60 A 192.0.2.1
mx1.one.example.    60 AAAA 2001:db8::1
prefs.example.      60 MX 20 b.prefs.example.
prefs.example.      60 MX 10 a.prefs.example.
prefs.example.      60 MX 20 c.prefs.example.
a.prefs.example.    60 A 192.0.2.10
b.prefs.example.    60 A 192.0.2.20
c.prefs.example.    60 A 192.0.2.30
many.example.       60 MX 10 many-mx.example.
many-mx.example.    60 A 192.0.2.41
many-mx.example.    60 A 192.0.2.42
many-mx.example.    60 AAAA 2001:db8::41
implicit.example.   60 A 192.0.2.2
null.example.       60 MX 0 .
alias.example.      60 CNAME one.example.
mxalias.example.    60 MX 10 alias-host.example.
alias-host.example. 60 CNAME mx1.one.example.
loop.example.       60 CNAME loop2.example.
loop2.example.      60 CNAME loop.example.
broken.example.     60 MX 10 no-such-host.example.
half.example.       60 MX 10 servfail.example.
half.example.       60 MX 20 mx1.one.example.
late.example.       60 MX 10 servfail.example.
numeric.example.    60 MX 10 192.0.2.9.
ours.example.       60 MX 10 mx.ours.example.
mx.ours.example.    60 A 192.0.2.77
ours.example.       60 MX 20 mx1.one.example.
backup.example.     60 MX 10 mx1.one.example.
backup.example.     60 MX 20 mx.ours.example.
backup.example.     60 MX 30 b.prefs.example.
cut.big.example.    60 MX 10 mx1.one.example.
empty.example.      60 TXT "no mail here"
xn--bcher-kva.example. 60 MX 10 mx1.one.example.
_odd.example.       60 A 192.0.2.3
`

func startServer(t *testing.T) *fakedns.Server {
	t.Helper()
	s, err := fakedns.Start(zone)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func newResolver(t *testing.T, cfg resolver.Config) *resolver.Resolver {
	t.Helper()
	if cfg.Timeout == 0 {
		cfg.Timeout = 200 * time.Millisecond
	}
	r, err := resolver.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func addrs(hosts []resolver.Host) []string {
	var out []string
	for _, h := range hosts {
		out = append(out, h.Addr.String())
	}
	return out
}

func TestMail(t *testing.T) {
	s := startServer(t)
	r := newResolver(t, resolver.Config{Servers: []string{s.Addr()}})
	own := []string{"mx.ours.example", "192.0.2.2"}
	for domain, want := range map[string]string{
		"one.example":        "2001:db8::1 192.0.2.1",
		"ONE.example.":       "2001:db8::1 192.0.2.1",
		"many.example":       "2001:db8::41 192.0.2.41 192.0.2.42",
		"alias.example":      "2001:db8::1 192.0.2.1",
		"mxalias.example":    "2001:db8::1 192.0.2.1",
		"half.example":       "2001:db8::1 192.0.2.1",
		"numeric.example":    "192.0.2.9",
		"backup.example":     "2001:db8::1 192.0.2.1",
		"cut.big.example":    "2001:db8::1 192.0.2.1",
		"bücher.example":     "2001:db8::1 192.0.2.1",
		"_odd.example":       "192.0.2.3",
		"[192.0.2.5]":        "192.0.2.5",
		"[IPv6:2001:db8::9]": "2001:db8::9",
		"null.example":       "5.1.10",
		"nowhere.example":    "5.1.2",
		"empty.example":      "5.4.4",
		"broken.example":     "5.4.4",
		"implicit.example":   "5.4.6",
		"[192.0.2.2]":        "5.4.6",
		"ours.example":       "5.4.6",
		"late.example":       "4.4.3",
		"servfail.example":   "4.4.3",
		"refused.example":    "4.4.3",
		"silence.example":    "4.4.3",
		"":                   "5.1.2",
		"a..b":               "5.1.2",
	} {
		t.Run(domain, func(t *testing.T) {
			hosts, err := r.Mail(t.Context(), domain, own)
			got := strings.Join(addrs(hosts), " ")
			var status mail.Status
			if errors.As(err, &status) {
				got = status.Enhanced
				if status.Permanent() != (got[0] == '5') {
					t.Errorf("%v: code and class differ", status)
				}
			}
			if got != want {
				t.Errorf("got %s (%v), want %s", got, err, want)
			}
		})
	}
	if s.AskedTCP() == 0 {
		t.Error("a cut answer was not asked for over TCP")
	}
}

func TestEqualPreferencesTakeTurns(t *testing.T) {
	s := startServer(t)
	r := newResolver(t, resolver.Config{Servers: []string{s.Addr()}})
	seen := map[string]int{}
	for range 60 {
		hosts, err := r.Mail(t.Context(), "prefs.example", nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := addrs(hosts); got[0] != "192.0.2.10" || len(got) != 3 {
			t.Fatalf("order %v", got)
		}
		seen[addrs(hosts)[1]]++
	}
	if len(seen) != 2 {
		t.Errorf("second host was always the same: %v", seen)
	}
}

func TestCacheHonoursTimes(t *testing.T) {
	s := startServer(t)
	now := time.Unix(1700000000, 0)
	r := newResolver(t, resolver.Config{Servers: []string{s.Addr()}, Now: func() time.Time { return now }})
	ask := func(domain string) int64 {
		before := s.Asked()
		_, _ = r.Mail(t.Context(), domain, nil)
		return s.Asked() - before
	}
	for _, c := range []struct {
		domain string
		after  time.Duration
		want   int64
	}{
		{"one.example", 0, 3}, {"One.Example", 59 * time.Second, 0}, {"one.example", 2 * time.Second, 3},
		{"nowhere.example", 0, 1}, {"nowhere.example", 29 * time.Second, 0}, {"nowhere.example", 2 * time.Second, 1},
		{"servfail.example", 0, 2}, {"servfail.example", 4 * time.Second, 0}, {"servfail.example", 2 * time.Second, 2},
	} {
		now = now.Add(c.after)
		if got := ask(c.domain); got != c.want {
			t.Errorf("%s after %v: %d questions, want %d", c.domain, c.after, got, c.want)
		}
	}
}

func TestSecondServerAndOldServer(t *testing.T) {
	s := startServer(t)
	r := newResolver(t, resolver.Config{Servers: []string{"127.0.0.1:1", s.Addr()}})
	if hosts, err := r.Mail(t.Context(), "one.example", nil); err != nil || len(hosts) != 2 {
		t.Errorf("with a dead first server: %v, %v", hosts, err)
	}
	old := startServer(t)
	old.NoEDNS.Store(true)
	r = newResolver(t, resolver.Config{Servers: []string{old.Addr()}})
	if hosts, err := r.Mail(t.Context(), "one.example", nil); err != nil || len(hosts) != 2 {
		t.Errorf("without EDNS: %v, %v", hosts, err)
	}
}

func TestNoServer(t *testing.T) {
	r := newResolver(t, resolver.Config{Servers: []string{"127.0.0.1:1"}})
	_, err := r.Mail(t.Context(), "one.example", nil)
	var status mail.Status
	if !errors.As(err, &status) || status.Permanent() {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = r.Addresses(ctx, "one.example"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestAddresses(t *testing.T) {
	s := startServer(t)
	r := newResolver(t, resolver.Config{Servers: []string{s.Addr()}})
	for name, want := range map[string][]string{
		"mx1.one.example": {"2001:db8::1", "192.0.2.1"},
		"192.0.2.7":       {"192.0.2.7"},
		"::1":             {"::1"},
		"localhost":       {"::1", "127.0.0.1"},
	} {
		hosts, err := r.Addresses(t.Context(), name)
		if got := addrs(hosts); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	for _, name := range []string{"nowhere.example", "empty.example", "servfail.example", "a..b"} {
		_, err := r.Addresses(t.Context(), name)
		var status mail.Status
		if !errors.As(err, &status) || status.Permanent() {
			t.Errorf("%s: %v, want a temporary failure", name, err)
		}
	}
}

func TestLookupIsBounded(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0") // never answers
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	r := newResolver(t, resolver.Config{
		Servers: []string{pc.LocalAddr().String()}, Timeout: 10 * time.Second, Total: 100 * time.Millisecond,
	})
	begun := time.Now()
	_, err = r.Mail(t.Context(), "one.example", nil)
	var status mail.Status
	if !errors.As(err, &status) || status.Permanent() || time.Since(begun) > 20*time.Second {
		t.Errorf("%v after %v", err, time.Since(begun))
	}
}

func TestSystemNames(t *testing.T) {
	r := newResolver(t, resolver.Config{})
	if hosts, err := r.Addresses(t.Context(), "localhost"); err != nil || len(hosts) == 0 {
		t.Errorf("%v, %v", hosts, err)
	}
}

func TestConfig(t *testing.T) {
	if _, err := resolver.New(resolver.Config{Servers: []string{"192.0.2.1"}}); err == nil {
		t.Error("a server without port was taken")
	}
}
