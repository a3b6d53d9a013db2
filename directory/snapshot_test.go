package directory

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// naive finds the longest pattern that matches a domain by looking at all.
func naive(all []string, domain string) string {
	best := ""
	for _, p := range all {
		switch {
		case p == domain:
			return p
		case strings.HasPrefix(p, ".") && strings.HasSuffix(domain, p) && len(domain) > len(p) && len(p) > len(best):
			best = p
		case p == "*" && best == "":
			best = p
		}
	}
	return best
}

func TestSharedQueues(t *testing.T) {
	docs, err := Parse(File{Name: "t", Data: []byte(`
{kind: queue, name: own}
---
{kind: queue, name: two}
---
{kind: queue, name: internet}
---
{kind: tenant, name: a, domains: [a.example], queue: own}
---
{kind: tenant, name: b, domains: [b.example], queue: two}
---
{kind: tenant, name: c, domains: [c.example], queue: two}
---
{kind: route, name: out, match: {domain: "*"}, via: "smtp://mx", queue: internet}
`)})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Build(docs)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"own": false, "two": true, "internet": true} {
		if got := s.Queue(name).Shared; got != want {
			t.Errorf("queue %s: shared %v, want %v", name, got, want)
		}
	}
}

func TestPatternsAgreeWithASearch(t *testing.T) {
	label := rapid.SampledFrom([]string{"a", "b", "ab", "example"})
	name := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(label, 1, 4).Draw(t, "labels"), ".")
	})
	rapid.Check(t, func(t *rapid.T) {
		p := patterns[string]{}
		var all []string
		for _, n := range rapid.SliceOfN(name, 0, 10).Draw(t, "names") {
			n = rapid.SampledFrom([]string{"", "."}).Draw(t, "dot") + n
			p[n], all = n, append(all, n)
		}
		if rapid.Bool().Draw(t, "star") {
			p["*"], all = "*", append(all, "*")
		}
		domain := name.Draw(t, "domain")
		want := naive(all, domain)
		pattern, got, ok := p.find(domain)
		if ok != (want != "") || got != want || ok && pattern != want {
			t.Fatalf("%s in %q: got %q %v, want %q", domain, all, got, ok, want)
		}
	})
}

func TestNetworksAgreeWithASearch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var text strings.Builder
		used := map[netip.Prefix]string{}
		for i := range rapid.IntRange(0, 8).Draw(t, "n") {
			addr := netip.AddrFrom4([4]byte{10, byte(rapid.IntRange(0, 3).Draw(t, "b")), byte(rapid.IntRange(0, 3).Draw(t, "c")), 0})
			if rapid.Bool().Draw(t, "six") {
				addr = netip.AddrFrom16([16]byte{0x20, 0x01, byte(rapid.IntRange(0, 1).Draw(t, "d"))})
			}
			p := netip.PrefixFrom(addr, rapid.IntRange(16, 32).Draw(t, "bits")).Masked()
			if used[p] != "" {
				continue
			}
			used[p] = fmt.Sprintf("t%d", i)
			fmt.Fprintf(&text, "---\nkind: tenant\nname: t%d\nnetworks: [%s]\n", i, p)
		}
		docs, err := Parse(File{Data: []byte(text.String())})
		if err != nil {
			t.Fatal(err)
		}
		s, err := Build(docs)
		if err != nil {
			t.Fatal(err)
		}
		addr := netip.AddrFrom4([4]byte{10, byte(rapid.IntRange(0, 3).Draw(t, "b")), byte(rapid.IntRange(0, 3).Draw(t, "c")), 7})
		bits, want := -1, ""
		for p, name := range used {
			if p.Contains(addr) && p.Bits() > bits {
				bits, want = p.Bits(), name
			}
		}
		got := ""
		if found := s.ByNetwork(netip.AddrFrom16(addr.As16())); found != nil {
			got = found.Name
		}
		if got != want {
			t.Fatalf("%s in %v: got %q, want %q", addr, used, got, want)
		}
	})
}

func TestOwner(t *testing.T) {
	s := snapshotOf(t, exampleSite)
	for domain, want := range map[string]string{
		"acme.example": "acme", "ACME.EXAMPLE": "acme", "a.acme.example": "acme", "deep.acme.example": "beta",
		"bücher.example": "acme", "example": "", "": "", "a..b": "", "xacme.example": "", "localhost": "",
	} {
		got := ""
		if owner := s.Owner(domain); owner != nil {
			got = owner.Name
		}
		if got != want {
			t.Errorf("%q: %q, want %q", domain, got, want)
		}
	}
}

func TestDefaultsAndInheritance(t *testing.T) {
	s := snapshotOf(t, "kind: site\nme: hub.example\ndouble_bounce_to: boss@hub.example\n---\nkind: tenant\nname: acme\n---\n"+
		"kind: queue\nname: own\nidentity: {me: own.example, source_ips: [192.0.2.5]}\ndouble_bounce_to: it@own.example\n")
	if diff := cmp.Diff(Site{"hub.example", "postmaster@hub.example", "boss@hub.example"}, s.Site()); diff != "" {
		t.Error(diff)
	}
	got := s.Queue("acme")
	want := &Queue{
		Name: "acme", Generation: 1, Role: RoleTenant, Pool: "default", Lifetime: 120 * time.Hour, BounceLifetime: 24 * time.Hour,
		Schedule: Schedule{Quadratic: 20}, Concurrency: 120, DestinationConcurrency: 20, Partitions: 3,
		Identity: Identity{Me: "hub.example", HELO: "hub.example"}, ContentClass: "default", DoubleBounceTo: "boss@hub.example",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if own := s.Queue("own"); own.Identity.HELO != "own.example" || own.DoubleBounceTo != "it@own.example" {
		t.Errorf("%+v", own)
	}
	if q := s.Queue(Default); q.Role != RoleInternet || s.Tenant(Default).Queue != Default {
		t.Errorf("%+v", q)
	}
	names := []string{}
	for _, q := range s.Queues() {
		names = append(names, q.Name)
	}
	if diff := cmp.Diff([]string{"acme", "default", "own"}, names); diff != "" {
		t.Error(diff)
	}
}

func TestCheckRetention(t *testing.T) {
	const day = 24 * time.Hour
	s := snapshotOf(t, "kind: queue\nname: acme\nlifetime: 10d\nbounce_lifetime: 2d\n")
	if err := s.CheckRetention(13 * day); err != nil {
		t.Error(err)
	}
	if err := s.CheckRetention(-1); err != nil {
		t.Error(err)
	}
	err := s.CheckRetention(13*day - 1)
	if err == nil || !strings.HasPrefix(err.Error(), "test.yaml:3: queue/acme: lifetime 10d") {
		t.Error(err)
	}
}

func BenchmarkDecide(b *testing.B) {
	var text strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&text, "---\nkind: tenant\nname: t%d\nqueue: default\ndomains: [d%d.example, .d%d.example]\n", i, i, i)
	}
	text.WriteString("---\nkind: route\nname: all\nmatch: {domain: .example}\nvia: smtp://mx\n")
	docs, err := Parse(File{Data: []byte(text.String())})
	if err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	s, err := Build(docs)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(time.Since(start).Milliseconds()), "ms/build")
	for b.Loop() {
		if d := s.Decide(Question{Recipient: "bob@a.b.d777.example"}); d.Tenant != "t777" {
			b.Fatal(d)
		}
	}
}
