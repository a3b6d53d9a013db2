package verify

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-msgauth/dkim"
)

// keys are made once: RSA keys take their time.
var keys = sync.OnceValue(func() map[string]crypto.Signer {
	long, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	_, short, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return map[string]crypto.Signer{"rsa": long, "ed25519": short}
})

// record is a key's TXT record, in strings that a zone may hold.
func record(name string) string {
	var text string
	switch k := keys()[name].(type) {
	case *rsa.PrivateKey:
		der, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
		if err != nil {
			panic(err)
		}
		text = "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(der)
	case ed25519.PrivateKey:
		text = "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(k.Public().(ed25519.PublicKey))
	}
	var parts []string
	for len(text) > 200 {
		parts, text = append(parts, `"`+text[:200]+`"`), text[200:]
	}
	return strings.Join(append(parts, `"`+text+`"`), " ")
}

func signed(t testing.TB, key, domain, selector, message string) string {
	t.Helper()
	var out bytes.Buffer
	err := dkim.Sign(&out, strings.NewReader(message), &dkim.SignOptions{
		Domain: domain, Selector: selector, Signer: keys()[key],
		HeaderCanonicalization: dkim.CanonicalizationRelaxed, BodyCanonicalization: dkim.CanonicalizationRelaxed,
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

const letter = "From: Ann <ann@news.acme.example>\r\nTo: bob@hub.example\r\nSubject: x\r\n\r\nHello,\r\n\r\nBob.\r\n"

func messageZone() string {
	return fmt.Sprintf(`
rsa._domainkey.acme.example.     60 TXT %s
ed._domainkey.acme.example.      60 TXT %s
rsa._domainkey.other.example.    60 TXT %s
rsa._domainkey.news.acme.example. 60 TXT %s
weak._domainkey.acme.example.    60 TXT "v=DKIM1; p=MEwwDQYJKoZIhvcNAQEBBQADOwAwOAIxAK8/jfKjGxsFUXX4MvLsyJqZFOJqPjZXTaKbHAyZi61JZIfvmSRGCjvMRLpyuQjbuQIDAQAB"
_dmarc.acme.example.             60 TXT "v=DMARC1; p=reject; sp=quarantine"
_dmarc.strict.example.           60 TXT "v=DMARC1; p=reject; adkim=s; aspf=s"
_dmarc.half.example.             60 TXT "v=DMARC1; p=reject; pct=50"
_dmarc.twice.example.            60 TXT "v=DMARC1; p=reject"
_dmarc.twice.example.            60 TXT "v=DMARC1; p=none"
_dmarc.broken.example.           60 TXT "v=DMARC1; p=perhaps"
`, record("rsa"), record("ed25519"), record("rsa"), record("rsa"))
}

// check writes a message in pieces of step octets.
func check(t testing.TB, c *Checker, w Wanted, spf *SPF, text string, step int) Findings {
	t.Helper()
	m := c.Message(t.Context(), w)
	defer m.Abort()
	for text != "" {
		n := min(step, len(text))
		if _, err := m.Write([]byte(text[:n])); err != nil {
			t.Fatal(err)
		}
		text = text[n:]
	}
	return m.Finish(spf)
}

func TestSignatures(t *testing.T) {
	c := newChecker(t, messageZone(), func(c *Config) { c.MaxSignatures = 2; c.MaxHeader = 8 << 10; c.MaxBlank = 100 })
	ok := signed(t, "rsa", "acme.example", "rsa", letter)
	for _, tt := range []struct{ name, text, want string }{
		{"rsa", ok, "pass"},
		{"ed25519", signed(t, "ed25519", "acme.example", "ed", letter), "pass"},
		{"both", signed(t, "ed25519", "acme.example", "ed", ok), "pass pass"},
		{"unsigned", letter, ""},
		{"body changed", strings.Replace(ok, "Hello", "Hallo", 1), "fail"},
		{"header changed", strings.Replace(ok, "Subject: x", "Subject: y", 1), "fail"},
		{"one of two broken", strings.Replace(signed(t, "ed25519", "acme.example", "ed", ok), "Subject: x", "Subject: y", 1), "fail fail"},
		{"no key", signed(t, "rsa", "acme.example", "gone", letter), "permerror"},
		{"no such domain", signed(t, "rsa", "gone.example", "rsa", letter), "permerror"},
		{"trouble", signed(t, "rsa", "acme.example", "servfail", letter), "temperror"},
		{"weak key", signed(t, "rsa", "acme.example", "weak", letter), "permerror"},
		{"wrong key", signed(t, "rsa", "acme.example", "ed", letter), "permerror"},
		{"only the first are looked at", strings.Repeat("DKIM-Signature: v=1; a=rsa-sha256; d=x\r\n", 5) + ok, "permerror permerror"},
		{"nonsense", "DKIM-Signature: \xff\r\n" + letter, "permerror"},
		{"header too long", ok[:len(ok)-30] + strings.Repeat("x", 10) + ok[len(ok)-30:], "fail"},
		{"a header without end", "X: " + strings.Repeat("x", 9000) + "\r\n" + ok, ""},
		{"signature in a long header", strings.Replace(ok, "Subject: x", "Subject: "+strings.Repeat("x", 9000), 1), "permerror"},
		{"many empty lines", ok + strings.Repeat("\r\n", 200) + "x\r\n", "permerror"},
		{"some empty lines at the end", ok + strings.Repeat("\r\n", 20), "pass"},
		{"empty", "", ""},
		{"body only", "\r\nx\r\n", ""},
		{"header only", strings.SplitAfter(signed(t, "rsa", "acme.example", "rsa", "From: a@acme.example\r\n\r\n"), "From: a@acme.example\r\n")[0], "pass"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, step := range []int{1, 7, 1 << 20} {
				f := check(t, c, Wanted{DKIM: true}, nil, tt.text, step)
				var got []string
				for _, s := range f.DKIM {
					got = append(got, s.Result)
				}
				if strings.Join(got, " ") != tt.want || f.NoDKIM != (tt.want == "") {
					t.Errorf("step %d: %+v, want %s", step, f.DKIM, tt.want)
				}
			}
		})
	}
}

func TestAbort(t *testing.T) {
	c := newChecker(t, messageZone())
	ok := signed(t, "rsa", "acme.example", "rsa", letter)
	for _, n := range []int{0, 10, len(ok) - 5} {
		m := c.Message(t.Context(), Wanted{DKIM: true})
		_, _ = m.Write([]byte(ok[:n]))
		m.Abort()
		m.Abort()
	}
}

func TestDMARC(t *testing.T) {
	percent := 0
	c := newChecker(t, messageZone(), func(c *Config) { c.Percent = func() int { return percent } })
	from := func(domains ...string) string {
		for i := range domains {
			domains[i] = "a@" + domains[i]
		}
		return "From: " + strings.Join(domains, ", ") + "\r\n\r\nx\r\n"
	}
	passed := func(domain string) *SPF { return &SPF{Result: Pass, Domain: domain} }
	for _, tt := range []struct {
		name    string
		text    string
		spf     *SPF
		percent int
		want    string // result, policy
		refused bool
	}{
		{"nothing passed", from("acme.example"), &SPF{Result: Fail, Domain: "acme.example"}, 0, "fail reject", true},
		{"nobody asked SPF", from("acme.example"), nil, 0, "fail reject", true},
		{"SPF", from("acme.example"), passed("acme.example"), 0, "pass ", false},
		{"SPF of a subdomain", from("acme.example"), passed("bounce.acme.example"), 0, "pass ", false},
		{"SPF of another", from("acme.example"), passed("other.example"), 0, "fail reject", true},
		{"SPF by local rules", from("acme.example"), &SPF{Result: Pass, Local: true, Domain: "acme.example"}, 0, "fail reject", true},
		{"SPF unknown", from("acme.example"), &SPF{Result: TempError, Domain: "acme.example"}, 0, "temperror ", false},
		{"subdomain", from("news.acme.example"), nil, 0, "fail quarantine", false},
		{"DKIM of the organization", signed(t, "rsa", "acme.example", "rsa", letter), nil, 0, "pass ", false},
		{"DKIM of the author", signed(t, "rsa", "news.acme.example", "rsa", letter), nil, 0, "pass ", false},
		{"DKIM of another", signed(t, "rsa", "other.example", "rsa", letter), nil, 0, "fail quarantine", false},
		{"DKIM unknown", signed(t, "rsa", "acme.example", "servfail", letter), nil, 0, "temperror ", false},
		{"strict, a subdomain", from("strict.example"), passed("x.strict.example"), 0, "fail reject", true},
		{"strict, the same", from("strict.example"), passed("strict.example"), 0, "pass ", false},
		{"sampled", from("half.example"), nil, 49, "fail reject", true},
		{"spared", from("half.example"), nil, 50, "fail quarantine", false},
		{"no policy", from("none.example"), nil, 0, "none ", false},
		{"two policies", from("twice.example"), nil, 0, "none ", false},
		{"broken policy", from("broken.example"), nil, 0, "permerror ", false},
		{"a public suffix", from("co.uk"), nil, 0, "none ", false},
		{"policy out of reach", "From: a@x.trouble.example\r\n\r\n", nil, 0, "none ", false},
		{"no author", "Subject: x\r\n\r\n", nil, 0, "permerror ", false},
		{"author without domain", "From: root\r\n\r\n", nil, 0, "permerror ", false},
		{"two authors, one fails", from("none.example", "acme.example"), nil, 0, "fail reject", true},
		{"two fields", "From: a@none.example\r\n" + from("acme.example"), nil, 0, "fail reject", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			percent = tt.percent
			f := check(t, c, Wanted{DMARC: true}, tt.spf, tt.text, 1<<20)
			if got := f.DMARC.Result + " " + f.DMARC.Policy; got != tt.want {
				t.Errorf("%s (%s), want %s", got, f.DMARC.Reason, tt.want)
			}
			s, refused := f.Refusal()
			if refused != tt.refused || refused && !strings.HasPrefix(s.String(), "550 5.7.1 ") {
				t.Errorf("%v, %v", s, refused)
			}
		})
	}
}

func TestForgedResults(t *testing.T) {
	c := newChecker(t, "")
	for value, want := range map[string]int{
		"mx.hub.example; spf=pass":                             1,
		" MX.hub.example. 1; none":                             1,
		"\r\n\t(a (nested \\) one)) \"mx.hub\\.example\"; x=y": 1,
		"mx.hub.example(comment);none":                         1,
		"other.example; spf=pass (mx.hub.example)":             0,
		"xmx.hub.example; none":                                0,
		"":                                                     0,
		"(":                                                    0,
	} {
		text := "Received: x\r\nauthentication-RESULTS : " + value + "\r\n\r\nAuthentication-Results: mx.hub.example; in=body\r\n"
		f := check(t, c, Wanted{ID: "mx.hub.example"}, nil, text, 3)
		if f.Forged != want {
			t.Errorf("%q: %d", value, f.Forged)
		}
	}
}

// FuzzMessage: whatever comes, in whatever pieces, is verified alike, and what
// is told of it stays a header of few fields.
func FuzzMessage(f *testing.F) {
	ok := signed(f, "rsa", "acme.example", "rsa", letter)
	f.Add(ok, 5)
	f.Add("From: \"a\" <b@c.example>, d@e.example\r\nAuthentication-Results: (x) \"mx\\.example\"; spf=pass\r\n\r\n\r\n\r\n", 40)
	f.Add("DKIM-Signature: v=1; a=rsa-sha256; b=; bh=; d=acme.example; h=from; s=rsa; l=1\r\n\r\n", 0)
	c := newChecker(f, messageZone(), func(c *Config) { c.MaxHeader = 4 << 10; c.MaxBlank = 64 })
	f.Fuzz(func(t *testing.T, text string, cut int) {
		w := Wanted{ID: "mx.example", DMARC: true}
		spf := &SPF{Result: Fail, Domain: "acme.example", Sender: text, Problem: text, client: Client{HELO: text}}
		whole := check(t, c, w, spf, text, max(len(text), 1)).Lines("mx.example")
		parts := check(t, c, w, spf, text, min(max(cut, 1), 1000)).Lines("mx.example")
		if whole != parts {
			t.Errorf("%q, in parts %q", whole, parts)
		}
		for line := range strings.SplitSeq(strings.TrimSuffix(whole, "\r\n"), "\r\n") {
			known := strings.HasPrefix(line, "\t") || strings.HasPrefix(line, "Received-SPF: ") || strings.HasPrefix(line, "Authentication-Results: ")
			if !known || len(line) > 2000 || strings.ContainsAny(line, "\r\n\x00") {
				t.Errorf("line %q", line)
			}
		}
	})
}
