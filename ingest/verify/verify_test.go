package verify

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"qstream/mail"
	"qstream/test/fakedns"
	"qstream/transport/resolver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newChecker asks a name server with a zone.
func newChecker(t testing.TB, zone string, change ...func(*Config)) *Checker {
	t.Helper()
	s, err := fakedns.Start(zone)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	r, err := resolver.New(resolver.Config{Servers: []string{s.Addr()}, Timeout: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Resolver: r}
	for _, c := range change {
		c(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var spfZone = `
pass.example.     60 TXT "v=spf1 ip4:192.0.2.1 -all"
soft.example.     60 TXT "v=spf1 ~all"
neutral.example.  60 TXT "v=spf1 ?all"
none.example.     60 A 192.0.2.1
broken.example.   60 TXT "v=spf1 what -all"
trouble.example.  60 TXT "v=spf1 include:servfail.example -all"
explained.example. 60 TXT "v=spf1 -all exp=why.explained.example"
why.explained.example. 60 TXT "%{i} is not one of %{d}'s, says %{r}"
led.example.      60 TXT "v=spf1 -ip4:192.0.2.66 redirect=explained.example exp=here.led.example"
here.led.example. 60 TXT "barred here"
deep.example.     60 TXT "v=spf1 include:1.deep.example -all"
` + deepZone

var deepZone = func() string {
	var b strings.Builder
	for i := 1; i <= 12; i++ {
		b.WriteString(strings.NewReplacer("N", itoa(i), "M", itoa(i+1)).Replace("N.deep.example. 60 TXT \"v=spf1 include:M.deep.example -all\"\n"))
	}
	return b.String()
}()

func itoa(n int) string { return string(rune('a' + n)) }

func TestSPF(t *testing.T) {
	c := newChecker(t, strings.ReplaceAll(spfZone, "1.deep", "b.deep"))
	for _, tt := range []struct {
		name, ip, from, helo string
		rules                SPFRules
		want, explain        string
	}{
		{"pass", "192.0.2.1", "a@pass.example", "x", SPFRules{}, Pass, ""},
		{"mapped address", "::ffff:192.0.2.1", "a@PASS.example", "x", SPFRules{}, Pass, ""},
		{"fail", "192.0.2.2", "a@pass.example", "x", SPFRules{}, Fail, "192.0.2.2 is not allowed to send mail for pass.example"},
		{"fail over IPv6", "2001:db8::1", "a@pass.example", "x", SPFRules{Explain: "no %{c}"}, Fail, "no 2001:db8::1"},
		{"softfail", "192.0.2.2", "a@soft.example", "x", SPFRules{}, SoftFail, ""},
		{"neutral", "192.0.2.2", "a@neutral.example", "x", SPFRules{}, Neutral, ""},
		{"no record", "192.0.2.2", "a@none.example", "x", SPFRules{}, None, ""},
		{"no domain", "192.0.2.2", "a@nowhere.example", "x", SPFRules{}, None, ""},
		{"broken", "192.0.2.2", "a@broken.example", "x", SPFRules{}, PermError, ""},
		{"trouble", "192.0.2.2", "a@trouble.example", "x", SPFRules{}, TempError, ""},
		{"too many lookups", "192.0.2.2", "a@deep.example", "x", SPFRules{}, PermError, ""},
		{"null path", "192.0.2.2", "", "pass.example", SPFRules{}, Fail, "192.0.2.2 is not allowed to send mail for pass.example"},
		{"null path, HELO without a domain", "192.0.2.2", "", "x", SPFRules{}, None, ""},
		{"HELO is a literal", "192.0.2.2", "", "[192.0.2.2]", SPFRules{}, None, ""},
		{"own explanation", "192.0.2.2", "a@pass.example", "x", SPFRules{Explain: "see https://mx.example/?s=%{S}&i=%{i}"}, Fail, "see https://mx.example/?s=a%40pass.example&i=192.0.2.2"},
		{"own explanation that is broken", "192.0.2.2", "a@pass.example", "x", SPFRules{Explain: "%{x"}, Fail, "192.0.2.2 is not allowed to send mail for pass.example"},
		{"the domain explains", "192.0.2.2", "a@explained.example", "x", SPFRules{Receiver: "mx.acme.example"}, Fail,
			"explained.example explains: 192.0.2.2 is not one of explained.example's, says mx.acme.example"},
		{"redirected explanation", "192.0.2.2", "a@led.example", "x", SPFRules{}, Fail, "led.example explains: 192.0.2.2 is not one of explained.example's, says unknown"},
		{"explanation before a redirect", "192.0.2.66", "a@led.example", "x", SPFRules{}, Fail, "led.example explains: barred here"},
		{"local rules", "192.0.2.2", "a@pass.example", "x", SPFRules{Local: "ip4:192.0.2.2"}, Pass, ""},
		{"local rules without a record", "192.0.2.2", "a@none.example", "x", SPFRules{Local: "ip4:192.0.2.2"}, Pass, ""},
		{"local rules that don't match", "192.0.2.2", "a@soft.example", "x", SPFRules{Local: "ip4:192.0.2.3"}, SoftFail, ""},
		{"local rules don't mend", "192.0.2.2", "a@broken.example", "x", SPFRules{Local: "ip4:192.0.2.2"}, PermError, ""},
		{"quoted local part", "192.0.2.1", `"a@b"@pass.example`, "x", SPFRules{}, Pass, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := c.SPF(t.Context(), Client{IP: netip.MustParseAddr(tt.ip), HELO: tt.helo}, tt.from, tt.rules)
			if s.Result != tt.want || s.Explain != tt.explain {
				t.Errorf("%s (%s), explained %q", s.Result, s.Problem, s.Explain)
			}
		})
	}
}

// TestLevels is the table of s/qmail's levels, with one code each.
func TestLevels(t *testing.T) {
	replies := map[string]string{
		TempError: "451 4.4.3", Fail: "550 5.7.1", SoftFail: "550 5.7.1", Neutral: "550 5.7.1", None: "550 5.7.1", PermError: "550 5.5.2",
	}
	from := map[string]int{TempError: 2, Fail: 3, SoftFail: 4, Neutral: 5, None: 6, PermError: 6, Pass: 7}
	for result, first := range from {
		for level := SPFOff; level <= SPFNone; level++ {
			got := ""
			if s, refused := (SPF{Result: result, Explain: "x"}).Refusal(level); refused {
				got = s.String()
			}
			want := ""
			if level >= first {
				want = replies[result]
			}
			if (want == "") != (got == "") || !strings.HasPrefix(got, want) {
				t.Errorf("%s at level %d: %q, want %q", result, level, got, want)
			}
		}
	}
}

// never is a name server that doesn't answer before the question ends.
type never struct{ Resolver }

func (never) TXT(ctx context.Context, _ string) ([]string, error) {
	<-ctx.Done()
	return nil, errors.Join(mail.Status{Code: 451, Enhanced: "4.4.3"}, ctx.Err())
}

func TestDeadServerIsBounded(t *testing.T) {
	c, err := New(Config{Resolver: never{}, Timeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	s := c.SPF(t.Context(), Client{IP: netip.MustParseAddr("192.0.2.1"), HELO: "x"}, "a@slow.example", SPFRules{})
	if s.Result != TempError {
		t.Errorf("SPF %s", s.Result)
	}
	m := c.Message(t.Context(), Wanted{DMARC: true})
	_, _ = m.Write([]byte("From: a@slow.example\r\nDKIM-Signature: v=1; a=rsa-sha256; d=slow.example; s=s; h=from; bh=YQ==; b=YQ==\r\n\r\nx\r\n"))
	f := m.Finish(&s)
	if f.DMARC.Result != TempError || len(f.DKIM) != 1 || f.DKIM[0].Result != TempError {
		t.Errorf("%+v, %+v", f.DMARC, f.DKIM)
	}
	if _, refused := f.Refusal(); refused {
		t.Error("trouble of DNS refused mail")
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestMacros(t *testing.T) {
	// RFC 7208 7.4
	m := macros{domain: "email.example.com", now: "1", spf: SPF{
		Sender: "strong-bad@email.example.com", client: Client{IP: netip.MustParseAddr("192.0.2.3"), HELO: "h"},
	}}
	for in, want := range map[string]string{
		"%{s}": "strong-bad@email.example.com", "%{o}": "email.example.com", "%{d}": "email.example.com",
		"%{d4}": "email.example.com", "%{d3}": "email.example.com", "%{d2}": "example.com", "%{d1}": "com",
		"%{dr}": "com.example.email", "%{d2r}": "example.email", "%{l}": "strong-bad", "%{l-}": "strong.bad",
		"%{lr}": "strong-bad", "%{lr-}": "bad.strong", "%{l1r-}": "strong",
		"%{ir}.%{v}._spf.%{d2}": "3.2.0.192.in-addr._spf.example.com", "a%%b%_c%-d": "a%b c%20d", "%{S}": "strong-bad%40email.example.com",
		"%{t}": "1", "%{r}": "unknown", "%{p}": "unknown", "%{h}": "h",
		"%": "", "%x": "", "%{": "", "%{}": "", "%{d0}": "", "%{z}": "", "%{d!}": "",
	} {
		if got, ok := m.expand(in); got != want || ok != (want != "") {
			t.Errorf("%s: %q, %v, want %q", in, got, ok, want)
		}
	}
	m.spf.client.IP = netip.MustParseAddr("2001:db8::cb01")
	if got, _ := m.expand("%{ir}.%{v}"); got != "1.0.b.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6" {
		t.Error(got)
	}
}

func FuzzExpand(f *testing.F) {
	f.Add("%{d2r.-}%%%_", "a@b.example")
	f.Fuzz(func(t *testing.T, text, sender string) {
		m := macros{domain: "d.example", spf: SPF{Sender: sender, client: Client{IP: netip.MustParseAddr("2001:db8::1"), HELO: sender}}}
		if said, ok := m.expand(text); ok && len(cut(said)) > maxExplain {
			t.Errorf("%d octets", len(cut(said)))
		}
	})
}

func TestNew(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("a checker without a resolver was made")
	}
}
