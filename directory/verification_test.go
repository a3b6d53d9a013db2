package directory

import (
	"strings"
	"testing"
	"time"
)

func TestVerification(t *testing.T) {
	const head = "kind: tenant\nname: acme\nqueue: default\ndomains: [acme.example]\n"
	s := snapshotOf(t, head+`verify:
  spf: {level: 3, explain: "see %{i}", local_rules: "ip4:192.0.2.0/24"}
  dkim: true
  dmarc: enforce
  greylist: {delay: 1m, window: 1d, lifetime: 30d, auto_allow: 0, on_fault: defer, server: "127.0.0.1;60000"}
`)
	got := *s.Owner("acme.example").Verify
	grey := *got.Greylist
	got.Greylist = nil
	if want := (Verification{SPF: SPF{3, "see %{i}", "ip4:192.0.2.0/24"}, DKIM: true, DMARC: DMARCEnforce}); got != want {
		t.Errorf("%+v", got)
	}
	if want := (Greylist{time.Minute, 24 * time.Hour, 30 * 24 * time.Hour, 0, GreylistDefer, "127.0.0.1:60000"}); grey != want {
		t.Errorf("%+v", grey)
	}
	grey = *snapshotOf(t, head+"verify: {greylist: {delay: 2m}}\n").Owner("acme.example").Verify.Greylist
	if want := (Greylist{2 * time.Minute, 48 * time.Hour, 35 * 24 * time.Hour, 5, GreylistPass, ""}); grey != want {
		t.Errorf("defaults: %+v", grey)
	}
	if s := snapshotOf(t, head); s.Owner("acme.example").Verify != nil {
		t.Error("a tenant that wants nothing gets something")
	}
	for bad, want := range map[string]string{
		"{spf: {level: 7}}":                                  "0 to 6",
		"{spf: 3}":                                           "wants keys and values",
		"{dmarc: perhaps}":                                   "none of record, enforce",
		"{greylist: {delay: 1d, window: 1h}}":                "nobody could come back",
		"{greylist: {server: localhost}}":                    "ip;port",
		"{greylist: {lifetime: 90d}}":                        "not between",
		"{spf: {explain: " + strings.Repeat("x", 401) + "}}": "longer",
		"{arc: true}":                                        "unknown key",
	} {
		_, err := Parse(File{Name: "t.yaml", Data: []byte(head + "verify: " + bad + "\n")})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestParsePolicyServer(t *testing.T) {
	for in, want := range map[string]string{
		"127.0.0.1;60000": "127.0.0.1:60000", "127.0.0.1": "127.0.0.1:60000", "::1;1": "[::1]:1", "[::1]:25": "[::1]:25", "192.0.2.1:7": "192.0.2.1:7",
		"": "", "localhost;1": "", "127.0.0.1;0": "", "127.0.0.1;x": "", "127.0.0.1;65536": "",
	} {
		got, err := ParsePolicyServer(in)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}
