package directory

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestConfigurationPage: docs/configuration.md names every key, and what it
// shows is a directory.
func TestConfigurationPage(t *testing.T) {
	page, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for _, s := range strings.Split(string(page), "\n## ")[1:] {
		title, body, _ := strings.Cut(s, "\n")
		sections[strings.TrimPrefix(title, "kind: ")] = body
	}
	named := func(kind, key string) {
		if !strings.Contains(sections[kind], "`"+key+"`") && !strings.Contains(sections[kind], "`"+key+":") {
			t.Errorf("kind %s: key %s is not on the page", kind, key)
		}
	}
	for _, k := range namesOf(siteKeys) {
		named(KindSite, k)
	}
	for _, k := range append(namesOf(queueKeys), "identity.me", "identity.helo", "identity.source_ips") {
		if k != "identity" {
			named(KindQueue, k)
		}
	}
	for _, k := range namesOf(tenantKeys) {
		if k != "events" {
			named(KindTenant, k)
		}
	}
	for _, k := range namesOf(tenantEventsKeys) {
		named(KindTenant, "events."+k)
	}
	for _, keys := range [][]string{namesOf(verificationKeys), namesOf(spfKeys), namesOf(greylistKeys)} {
		for _, k := range keys {
			named(KindTenant, k)
		}
	}
	for prefix, keys := range map[string][]string{"": namesOf(tenantQuotaKeys), "in.": namesOf(hourKeys), "waiting.": namesOf(waitKeys)} {
		for _, k := range keys {
			named(KindTenant, "quota."+prefix+k)
		}
	}
	for _, k := range append(namesOf(routeKeys), "match.domain", "match.null_sender") {
		if k != "match" {
			named(KindRoute, k)
		}
	}
	for _, k := range namesOf(credentialKeys) {
		named(KindCredential, k)
	}
	for _, k := range append(namesOf(policyKeys), "match.domains", "match.clients", "match.tenant") {
		if k != "match" {
			named(KindPolicy, k)
		}
	}
	for _, k := range namesOf(recipientKeys) {
		named(KindPolicy, "recipients."+k)
	}
	for prefix, keys := range map[string][]string{
		"": namesOf(rulesKeys), "limits.": namesOf(limitKeys), "greet.": namesOf(greetKeys), "dnsbl.": namesOf(dnsblKeys), "scan.": namesOf(sessionScanKeys), "list ": namesOf(listKeys),
	} {
		for _, k := range keys {
			if k != "limits" && k != "greet" && k != "dnsbl" && k != "scan" {
				named(KindRules, strings.TrimPrefix(prefix, "list ")+k)
			}
		}
	}
	for kind, keys := range map[string][]string{
		KindEngine:  append(namesOf(engineKeys), namesOf(unpackKeys)...),
		KindWebhook: slices.Concat(namesOf(webhookKeys), namesOf(giveUpKeys)),
		KindScan:    slices.Concat(namesOf(scanKeys), namesOf(scanRuleKeys), namesOf(quarantineKeys)),
	} {
		for _, k := range keys {
			if !strings.Contains(sections[kind], "`"+k) {
				t.Errorf("kind %s: key %s is not on the page", kind, k)
			}
		}
	}
	text := "kind: queue\nname: bounces\n"
	for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		text += "---\n" + block[1]
	}
	if n := len(snapshotOf(t, text).Documents()); n != 16 {
		t.Errorf("%d documents, want 16", n)
	}
}

func namesOf[T any](keys []key[T]) (all []string) {
	for _, k := range keys {
		if k.name != "kind" && k.name != "name" {
			all = append(all, k.name)
		}
	}
	return all
}
