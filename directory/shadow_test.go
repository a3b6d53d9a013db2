package directory

import (
	"errors"
	"strings"
	"testing"
)

// shadowText has a policy, two that stand beside it, and three tenants.
const shadowText = `kind: engine
name: clam
type: unpack
---
kind: scan
name: plain
engines: clam
---
kind: scan
name: strict
engines: clam
---
kind: scan
name: stricter
engines: clam
---
kind: scan
name: watched
engines: clam
shadow: strict
---
kind: queue
name: shared
number: 7
scan: plain
shadow: strict
schedule: {steps: [1m, 1h]}
---
kind: queue
name: eve
scan: watched
---
kind: tenant
name: ann
domains: [ann.example]
queue: shared
---
kind: tenant
name: bob
domains: [bob.example, .bob.example]
queue: shared
shadow: stricter
---
kind: tenant
name: carl
domains: [carl.example]
queue: shared
scan: watched
---
kind: tenant
name: dora
domains: [dora.example]
queue: shared
scan: stricter
---
kind: tenant
name: eve
domains: [eve.example]
---
kind: tenant
name: free
domains: [free.example]
---
kind: route
name: all
match: {domain: "*"}
via: smtp://mx
`

// Whose mail is compared with what.
func TestShadowOf(t *testing.T) {
	s := snapshotOf(t, shadowText)
	for tenant, want := range map[string][2]string{
		"ann": {"plain", "strict"}, "bob": {"plain", "stricter"}, "carl": {"watched", "strict"},
		"dora": {"stricter", ""}, "eve": {"watched", "strict"}, "free": {"", ""},
	} {
		d := s.Explain(Question{Recipient: "x@" + tenant + ".example"})
		if d.Scan != want[0] || d.Shadow != want[1] {
			t.Errorf("%s: %q with %q, want %q", tenant, d.Scan, d.Shadow, want)
		}
		if said := strings.Contains(strings.Join(d.Steps, "\n"), "compared with scan policy "+want[1]); said != (want[1] != "") {
			t.Errorf("%s: %q", tenant, d.Steps)
		}
	}
}

func TestShadowRefused(t *testing.T) {
	for _, c := range []struct{ name, add, want string }{
		{"unknown to a policy", "kind: scan\nname: p\nengines: clam\nshadow: nobody\n", `there is no scan policy "nobody"`},
		{"itself", "kind: scan\nname: p\nengines: clam\nshadow: p\n", "can't be compared with itself"},
		{"a chain", "kind: scan\nname: p\nengines: clam\nshadow: watched\n", "scan policy watched has a shadow itself, strict"},
		{"unknown to a queue", "kind: queue\nname: q\nscan: plain\nshadow: nobody\n", `there is no scan policy "nobody"`},
		{"a queue with one policy twice", "kind: queue\nname: q\nscan: plain\nshadow: plain\n", "can't be compared with itself"},
		{"a queue without a policy", "kind: queue\nname: q\nshadow: plain\n", "there is no scan policy to compare plain with"},
		{"a chain of a queue", "kind: queue\nname: q\nscan: plain\nshadow: watched\n", "has a shadow itself"},
		{"unknown to a tenant", "kind: tenant\nname: t\nqueue: shared\nshadow: nobody\n", `there is no scan policy "nobody"`},
		{"a tenant with one policy twice", "kind: tenant\nname: t\nqueue: shared\nscan: strict\nshadow: strict\n", "can't be compared with itself"},
		{"a tenant without a policy", "kind: tenant\nname: t\nshadow: plain\n", "there is no scan policy to compare plain with"},
	} {
		t.Run(c.name, func(t *testing.T) {
			docs, err := Parse(File{Name: "x", Data: []byte(shadowText + "---\n" + c.add)})
			if err == nil {
				_, err = Build(docs)
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
}

// What is promoted keeps all else of its document, and has no shadow any more.
func TestPromote(t *testing.T) {
	s := snapshotOf(t, shadowText)
	for _, c := range []struct {
		ref          Ref
		live, shadow string
		yaml         string
	}{
		{Ref{KindTenant, "ann"}, "plain", "strict", "kind: tenant\nname: ann\ndomains:\n- ann.example\nqueue: shared\nscan: strict\n"},
		{Ref{KindTenant, "bob"}, "plain", "stricter", "kind: tenant\nname: bob\ndomains:\n- bob.example\n- .bob.example\nqueue: shared\nscan: stricter\n"},
		{Ref{KindTenant, "carl"}, "watched", "strict", "kind: tenant\nname: carl\ndomains:\n- carl.example\nqueue: shared\nscan: strict\n"},
		{Ref{KindQueue, "shared"}, "plain", "strict", "kind: queue\nname: shared\nnumber: 7\nschedule:\n  steps:\n  - 1m\n  - 1h\nscan: strict\n"},
		{Ref{KindQueue, "eve"}, "watched", "strict", "kind: queue\nname: eve\nscan: strict\n"},
	} {
		p, err := s.Promote(c.ref)
		if err != nil {
			t.Errorf("%s: %v", c.ref, err)
			continue
		}
		if p.Live != c.live || p.Shadow != c.shadow || p.Document.YAML != c.yaml {
			t.Errorf("%s: from %s to %s by\n%s", c.ref, p.Live, p.Shadow, p.Document.YAML)
		}
		docs := []Document{p.Document}
		for _, d := range s.Documents() {
			if d.Ref != c.ref {
				docs = append(docs, d)
			}
		}
		after, err := Build(docs)
		if err != nil {
			t.Errorf("%s: %v", c.ref, err)
			continue
		}
		if _, err := after.Promote(c.ref); !errors.Is(err, ErrNoShadow) {
			t.Errorf("%s again: %v", c.ref, err)
		}
	}
	for _, ref := range []Ref{{KindTenant, "dora"}, {KindTenant, "free"}, {KindTenant, "nobody"}, {KindQueue, "nobody"}, {KindScan, "watched"}} {
		if _, err := s.Promote(ref); !errors.Is(err, ErrNoShadow) {
			t.Errorf("%s: %v", ref, err)
		}
	}
	// What is there without a document has nothing that could be changed.
	implicit := snapshotOf(t, "kind: scan\nname: a\nengines: []\nshadow: b\n---\nkind: scan\nname: b\nengines: []\n---\nkind: queue\nname: default\nscan: a\n")
	if p, err := implicit.Promote(Ref{KindTenant, Default}); err == nil || errors.Is(err, ErrNoShadow) || p.Shadow != "b" {
		t.Errorf("%+v, %v", p, err)
	}
}

// A tenant's shadow that has become its queue's policy is none any more.
func TestShadowAheadOfItsQueue(t *testing.T) {
	s := snapshotOf(t, strings.Replace(shadowText, "scan: plain\nshadow: strict", "scan: stricter", 1))
	if d := s.Decide(Question{Recipient: "x@bob.example"}); d.Scan != "stricter" || d.Shadow != "" {
		t.Errorf("%q with %q", d.Scan, d.Shadow)
	}
}
