package verify

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/miekg/dns"

	"qstream/mail"
	"qstream/transport/resolver"
)

// TestRFC7208Suite runs the test suite of openspf.org (release 2014.04),
// testdata/rfc7208-tests.yml as it comes with the SPF library. What the
// library marks as its known differences ("skip") isn't asked, their number is
// held.
func TestRFC7208Suite(t *testing.T) {
	text, err := os.ReadFile("testdata/rfc7208-tests.yml")
	if err != nil {
		t.Fatal(err)
	}
	ran, skipped := 0, 0
	for i, part := range bytes.Split(text, []byte("\n---\n"))[1:] {
		var suite struct {
			Description string
			Tests       map[string]struct {
				Helo, Host, Mailfrom, Skip string
				Result                     any
			}
			Zonedata map[string][]any
		}
		if err := yaml.Unmarshal(part, &suite); err != nil {
			t.Fatalf("part %d: %v", i, err)
		}
		c, err := New(Config{Resolver: suiteZone(suite.Zonedata)})
		if err != nil {
			t.Fatal(err)
		}
		for name, tt := range suite.Tests {
			if tt.Skip != "" {
				skipped++
				continue
			}
			ran++
			t.Run(name, func(t *testing.T) {
				s := c.SPF(t.Context(), Client{IP: netip.MustParseAddr(tt.Host), HELO: tt.Helo}, tt.Mailfrom, SPFRules{})
				if want := texts(tt.Result); !slices.Contains(want, s.Result) {
					t.Errorf("%s (%s), want %v", s.Result, s.Problem, want)
				}
			})
		}
	}
	if ran < 150 || skipped > 50 {
		t.Errorf("%d tests ran, %d are skipped", ran, skipped)
	}
}

func texts(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var out []string
		for _, x := range v {
			out = append(out, fmt.Sprint(x))
		}
		return out
	}
	return []string{fmt.Sprint(v)}
}

// suiteZone is the suite's zone data as a resolver.
type suiteZone map[string][]any

func (z suiteZone) find(name, kind string) ([]any, error) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if _, ok := dns.IsDomainName(name); !ok {
		return nil, mail.Status{Code: 550, Enhanced: "5.1.2"}
	}
	for owner, records := range z {
		if strings.ToLower(owner) != name {
			continue
		}
		var found, spf []any
		for _, r := range records {
			m, isMap := r.(map[string]any)
			if !isMap {
				return nil, mail.Status{Code: 451, Enhanced: "4.4.3"} // TIMEOUT and the like
			}
			for _, trouble := range []string{"TIMEOUT", "SERVFAIL", "CNAMELOOP"} {
				if _, ok := m[trouble]; ok {
					return nil, mail.Status{Code: 451, Enhanced: "4.4.3"}
				}
			}
			if alias, ok := m["CNAME"].(string); ok {
				return z.find(alias, kind)
			}
			if v, ok := m[kind]; ok {
				found = append(found, v)
			}
			if v, ok := m["SPF"]; ok && kind == "TXT" {
				spf = append(spf, v)
			}
		}
		if len(found) == 0 {
			found = spf // the suite's own short form of TXT
		}
		return found, nil
	}
	return nil, mail.Status{Code: 550, Enhanced: "5.1.2"}
}

func (z suiteZone) TXT(_ context.Context, name string) ([]string, error) {
	found, err := z.find(name, "TXT")
	var out []string
	for _, v := range found {
		out = append(out, strings.Join(texts(v), ""))
	}
	return slices.DeleteFunc(out, func(s string) bool { return s == "NONE" }), err
}

func (z suiteZone) MX(_ context.Context, name string) ([]resolver.Exchanger, error) {
	found, err := z.find(name, "MX")
	var out []resolver.Exchanger
	for _, v := range found {
		out = append(out, resolver.Exchanger{Host: texts(v)[1]})
	}
	return out, err
}

func (z suiteZone) addrs(name, kind string) ([]netip.Addr, error) {
	found, err := z.find(name, kind)
	var out []netip.Addr
	for _, v := range found {
		for _, s := range texts(v) {
			out = append(out, netip.MustParseAddr(s))
		}
	}
	return out, err
}

func (z suiteZone) IPv4(_ context.Context, name string) ([]netip.Addr, error) {
	return z.addrs(name, "A")
}

func (z suiteZone) IPv6(_ context.Context, name string) ([]netip.Addr, error) {
	return z.addrs(name, "AAAA")
}

func (z suiteZone) Names(_ context.Context, a netip.Addr) ([]string, error) {
	name, err := dns.ReverseAddr(a.String())
	if err != nil {
		return nil, err
	}
	found, err := z.find(name, "PTR")
	var out []string
	for _, v := range found {
		out = append(out, texts(v)...)
	}
	return out, err
}
