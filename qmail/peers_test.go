package qmail

import (
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"qstream/test/peers"
)

// TestTCPRulesCheck compares the search with tcprulescheck's, in the language
// that ucspi-tcp 0.88 knows: IPv4 without CIDR.
func TestTCPRulesCheck(t *testing.T) {
	peers.Need(t)
	tcprules, err := exec.LookPath("tcprules")
	if err != nil {
		t.Fatal("needs tcprules and tcprulescheck of ucspi-tcp:", err)
	}
	dir := t.TempDir()
	cdb := filepath.Join(dir, "rules.cdb")
	found := regexp.MustCompile(`(?m)^rule (.*):$`)
	patterns := []string{
		"joe@10.1.2.3", "joe@=a.example", "10.1.2.3", "10.1.2.0-3", "10.1.2.3-300", "=a.example", "10.1.2.", "10.1.", "10.0-5.", "10.",
		"192.0.2.1", "=.a.example", "=.example", "=", "",
	}
	rapid.Check(t, func(t *rapid.T) {
		text := "# comment\n\n"
		for i, p := range rapid.SliceOf(rapid.SampledFrom(patterns)).Draw(t, "rules") {
			text += fmt.Sprintf("%s:%s,N=%c%d%[3]c,V=/a\\b/ \n", p, rapid.SampledFrom([]string{"allow", "deny"}).Draw(t, "action"),
				rapid.SampledFrom([]rune{'"', '\'', '\\', '|'}).Draw(t, "quote"), i+3)
		}
		rs, err := ParseRules(text)
		if err != nil {
			t.Fatal(err)
		}
		compile := exec.Command(tcprules, cdb, cdb+".tmp")
		compile.Stdin = strings.NewReader(text)
		if out, err := compile.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s\n%s", err, out, text)
		}
		for range 3 {
			c := Client{IP: rapid.SampledFrom([]netip.Addr{
				netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("10.1.2.200"), netip.MustParseAddr("10.9.9.9"), netip.MustParseAddr("192.0.2.1"),
			}).Draw(t, "ip")}
			c.Name = rapid.SampledFrom([]string{"", "a.example", "b.a.example", "other.test"}).Draw(t, "name")
			c.Info = rapid.SampledFrom([]string{"", "joe", "bill"}).Draw(t, "info")
			check := exec.Command(filepath.Join(filepath.Dir(tcprules), "tcprulescheck"), cdb)
			check.Env = []string{"TCPREMOTEIP=" + c.IP.String()}
			if c.Name != "" {
				check.Env = append(check.Env, "TCPREMOTEHOST="+c.Name)
			}
			if c.Info != "" {
				check.Env = append(check.Env, "TCPREMOTEINFO="+c.Info)
			}
			out, _ := check.Output() // denied is exit code 100
			r, ok := rs.Find(c)
			rule := found.FindSubmatch(out)
			deny := strings.Contains(string(out), "deny connection")
			if ok != (rule != nil) || r.Deny != deny || len(out) == 0 {
				t.Fatalf("%+v: %+v, tcprulescheck:\n%s\n%s", c, r, out, text)
			}
			if ok && rs.rules[rs.keys[string(rule[1])]].Line != r.Line {
				t.Fatalf("%+v: %+v, tcprulescheck:\n%s\n%s", c, r, out, text)
			}
			for name, value := range r.Env { // of a denied client it prints none
				if !deny && !strings.Contains(string(out), "set environment variable "+name+"="+value+"\n") {
					t.Fatalf("%+v: %s, tcprulescheck:\n%s\n%s", c, name, out, text)
				}
			}
		}
	})
}
