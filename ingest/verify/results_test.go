package verify

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/emersion/go-msgauth/authres"
)

func TestLines(t *testing.T) {
	spf := &SPF{
		Result: SoftFail, Domain: "acme.example", Sender: "ann@acme.example", Problem: `matched "all"`,
		client: Client{IP: netip.MustParseAddr("192.0.2.1"), HELO: "out.acme.example"}, receiver: "mx.hub.example",
	}
	f := Findings{
		SPF:    spf,
		DKIM:   []Signature{{Result: Pass, Domain: "acme.example", Selector: "s1", Algorithm: "rsa-sha256", Start: "AbC/+="}},
		DMARC:  &DMARC{Result: Fail, Domain: "acme.example", Policy: "reject", Reason: "x"},
		Forged: 2,
	}
	want := strings.ReplaceAll(`Authentication-Results: mx.hub.example
	(2 fields below claim this name and are not ours);
	spf=softfail
	 reason="matched \"all\"" smtp.mailfrom=acme.example;
	dkim=pass header.d=acme.example header.s=s1 header.a=rsa-sha256 header.b="AbC/+=";
	dmarc=fail
	 reason="x" header.from=acme.example policy.published-domain-policy=reject
Received-SPF: softfail
	client-ip=192.0.2.1;
	envelope-from="ann@acme.example";
	helo=out.acme.example;
	identity=mailfrom;
	receiver=mx.hub.example;
	problem="matched \"all\""
`, "\n", "\r\n")
	if got := f.Lines("mx.hub.example"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := (Findings{}).Lines("mx.hub.example"); got != "" {
		t.Errorf("nothing was asked, and %q is told", got)
	}
	if got := (Findings{Forged: 1}).Lines("mx.hub.example"); !strings.Contains(got, ";\r\n\tnone\r\n") {
		t.Errorf("forged only: %q", got)
	}
	if got := (Findings{NoDKIM: true}).Lines("mx.hub.example"); got != "Authentication-Results: mx.hub.example;\r\n\tdkim=none\r\n" {
		t.Errorf("%q", got)
	}
}

// TestLinesAreUnderstood: another's parser reads what we write.
func TestLinesAreUnderstood(t *testing.T) {
	f := Findings{
		SPF:   &SPF{Result: Pass, Domain: "acme.example", ByHELO: true, client: Client{HELO: "x"}},
		DKIM:  []Signature{{Result: Fail, Domain: "acme.example", Selector: "s1", Reason: "no"}},
		DMARC: &DMARC{Result: None, Domain: "acme.example"},
	}
	line, _, _ := strings.Cut(f.Lines("mx.hub.example"), "\r\nReceived-SPF")
	id, results, err := authres.Parse(strings.NewReplacer("\r\n", "", "Authentication-Results: ", "").Replace(line))
	if err != nil || id != "mx.hub.example" || len(results) != 3 {
		t.Fatalf("%q, %d results, %v", id, len(results), err)
	}
	if r := results[0].(*authres.SPFResult); r.Value != authres.ResultPass || r.Helo != "acme.example" {
		t.Errorf("%+v", r)
	}
	if r := results[1].(*authres.DKIMResult); r.Value != authres.ResultFail || r.Domain != "acme.example" {
		t.Errorf("%+v", r)
	}
	if r := results[2].(*authres.DMARCResult); r.Value != authres.ResultNone || r.From != "acme.example" {
		t.Errorf("%+v", r)
	}
}

func TestChecks(t *testing.T) {
	f := Findings{
		SPF: &SPF{Result: Fail, Domain: "acme.example", Problem: "\xff"}, DKIM: []Signature{{Result: Pass, Domain: strings.Repeat("x", 2000)}},
		NoDKIM: true, DMARC: &DMARC{Result: Fail, Domain: "acme.example", Policy: "quarantine"}, Forged: 1,
	}
	var got []string
	for _, c := range f.Checks() {
		got = append(got, c.Method+"="+c.Result+c.Policy)
		if len(c.Domain) > maxValue || strings.Contains(c.Reason, "\xff") {
			t.Errorf("%+v", c)
		}
	}
	if s := strings.Join(got, " "); s != "spf=fail dkim=pass dkim=none dmarc=failquarantine authentication-results=fail" {
		t.Error(s)
	}
}
