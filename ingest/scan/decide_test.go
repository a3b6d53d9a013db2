package scan

import (
	"testing"

	"qstream/directory"
	"qstream/directory/ruling"
	"qstream/engine"
	"qstream/mail"
)

func policy(t *testing.T, rules string) *directory.ScanPolicy {
	t.Helper()
	return built(t, rules).Scan("p")
}

// built is a directory with a policy p of two engines and these rules.
func built(t *testing.T, rules string) *directory.Snapshot {
	t.Helper()
	docs, err := directory.Parse(directory.File{Name: "x", Data: []byte(`
kind: engine
name: clam
type: unpack
---
kind: engine
name: spam
type: unpack
---
kind: queue
name: junk
---
kind: scan
name: p
engines: [clam, spam]
` + rules)})
	if err != nil {
		t.Fatal(err)
	}
	s, err := directory.Build(docs)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDecide(t *testing.T) {
	const rules = `
rules:
  - {on: malware, action: reject, status: 552 5.7.1 infected}
  - {on: spam, domains: [strict.example], action: reject}
  - {on: spam, engine: spam, score: 20, action: reject}
  - {on: encrypted, action: redirect, queue: junk}
  - {on: unscannable, reason: too large, action: pass}
  - {on: unscannable, reason: too deep, action: discard}
  - {on: unscannable, reason: too many, action: forward, address: abuse@hub.example}
  - {on: down, engine: clam, action: reject}
  - {on: down, engine: spam, action: pass}
`
	by := func(name string, o engine.Outcome, more ...func(*engine.Verdict)) ruling.Said {
		v := engine.Verdict{Engine: name, Outcome: o}
		for _, m := range more {
			m(&v)
		}
		return ruling.Said{Verdict: v}
	}
	why := func(r engine.Reason) func(*engine.Verdict) { return func(v *engine.Verdict) { v.Reason = r } }
	wants := func(a engine.Advice, s mail.Status) func(*engine.Verdict) {
		return func(v *engine.Verdict) { v.Advice, v.Status = a, s }
	}
	clean := by("clam", engine.Clean)
	for _, c := range []struct {
		name     string
		scan     directory.SessionScan // zero: all to the stage
		verdicts []ruling.Said
		trouble  trouble
		domains  []string
		fate     Fate
		code     int
		enhanced string
	}{
		{name: "nothing asked", fate: Accept},
		{name: "clean", verdicts: []ruling.Said{clean, by("spam", engine.Clean)}, fate: Accept},
		{name: "malware", verdicts: []ruling.Said{by("clam", engine.Malware)}, fate: Refuse, code: 552, enhanced: "5.7.1"},
		{name: "malware for several", verdicts: []ruling.Said{by("clam", engine.Malware)}, domains: []string{"a.example", "strict.example"}, fate: Refuse, code: 552, enhanced: "5.7.1"},
		{name: "malware, then out of time", verdicts: []ruling.Said{by("clam", engine.Malware)}, trouble: late, fate: Refuse, code: 552, enhanced: "5.7.1"},
		{name: "spam is tagged", verdicts: []ruling.Said{clean, by("spam", engine.Spam)}, fate: Accept},
		{name: "spam for a strict domain", verdicts: []ruling.Said{clean, by("spam", engine.Spam)}, domains: []string{"strict.example"}, fate: Refuse, code: 554, enhanced: "5.7.1"},
		{name: "spam, one of two is strict", verdicts: []ruling.Said{clean, by("spam", engine.Spam)}, domains: []string{"strict.example", "a.example"}, fate: Leave},
		{name: "refused in the engine's words", verdicts: []ruling.Said{by("clam", engine.Refused, wants(engine.Refuse, mail.Status{Code: 550, Enhanced: "5.7.9", Text: "no"}))}, fate: Refuse, code: 550, enhanced: "5.7.9"},
		{name: "refused without words", verdicts: []ruling.Said{by("clam", engine.Refused)}, fate: Refuse, code: 554, enhanced: "5.7.1"},
		{name: "refused with words for now", verdicts: []ruling.Said{by("clam", engine.Refused, wants(engine.Refuse, mail.Status{Code: 451, Enhanced: "4.7.1"}))}, fate: Refuse, code: 554, enhanced: "5.7.1"},
		{name: "an engine wants a quarantine", verdicts: []ruling.Said{by("clam", engine.Refused, wants(engine.Quarantine, mail.Status{}))}, fate: Leave},
		{name: "redirect", verdicts: []ruling.Said{by("clam", engine.Encrypted)}, fate: Leave},
		{name: "forward", verdicts: []ruling.Said{by("clam", engine.Unscannable, why(engine.TooMany))}, fate: Leave},
		{name: "discard", verdicts: []ruling.Said{by("clam", engine.Unscannable, why(engine.TooDeep))}, fate: Leave},
		{name: "quarantine", verdicts: []ruling.Said{by("clam", engine.Unscannable, why(engine.Damaged))}, fate: Leave},
		{name: "pass by rule", verdicts: []ruling.Said{by("clam", engine.Unscannable, why(engine.TooLarge)), by("spam", engine.Clean)}, fate: Accept},
		{name: "the zero verdict", verdicts: []ruling.Said{{}}, fate: Leave},
		{name: "down, and a rule would refuse", verdicts: []ruling.Said{by("clam", engine.Failed)}, fate: Leave},
		{name: "the same, deferred", scan: directory.SessionScan{Down: directory.AtDefer}, verdicts: []ruling.Said{by("clam", engine.Failed)}, fate: Defer, code: 451, enhanced: "4.7.1"},
		{name: "down, and a rule would pass", verdicts: []ruling.Said{clean, by("spam", engine.Failed)}, fate: Leave},
		{name: "busy", trouble: busy, fate: Leave},
		{name: "busy, deferred", scan: directory.SessionScan{Busy: directory.AtDefer}, trouble: busy, fate: Defer, code: 451, enhanced: "4.3.2"},
		{name: "late", trouble: late, verdicts: []ruling.Said{by("clam", engine.Failed, why(engine.Late))}, fate: Leave},
		{name: "late, deferred", scan: directory.SessionScan{Late: directory.AtDefer}, trouble: late, verdicts: []ruling.Said{by("clam", engine.Failed, why(engine.Late))}, fate: Defer, code: 451, enhanced: "4.7.1"},
		{name: "an engine defers", verdicts: []ruling.Said{clean, by("spam", engine.Clean, wants(engine.Defer, mail.Status{Code: 450, Enhanced: "4.7.9", Text: "greylisted"}))}, fate: Defer, code: 450, enhanced: "4.7.9"},
		{name: "an engine defers by failing", verdicts: []ruling.Said{by("clam", engine.Failed, wants(engine.Defer, mail.Status{}))}, fate: Defer, code: 451, enhanced: "4.7.1"},
		{name: "an engine defers with a refusal", verdicts: []ruling.Said{by("clam", engine.Failed, wants(engine.Defer, mail.Status{Code: 550}))}, fate: Defer, code: 451, enhanced: "4.7.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, s := policy(t, rules), c.scan
			for _, to := range []*string{&s.Busy, &s.Late, &s.Down} {
				if *to == "" {
					*to = directory.AtStage
				}
			}
			if c.domains == nil {
				c.domains = []string{"a.example"}
			}
			rulings := ruling.Judge(p, c.verdicts, ruling.Case{Domains: c.domains, Answers: true})
			d := decide(rulings, c.verdicts, s, c.trouble)
			if d.fate != c.fate || d.status.Code != c.code || d.status.Enhanced != c.enhanced {
				t.Errorf("%v %v, want %v %d %s", d.fate, d.status, c.fate, c.code, c.enhanced)
			}
		})
	}
}

// Recipients that an engine refuses alone don't refuse the message.
func TestDecideRefusedRecipients(t *testing.T) {
	v := ruling.Said{Verdict: engine.Verdict{Engine: "clam", Outcome: engine.Clean, Refusals: []engine.Refusal{{Recipient: 1, Status: mail.Status{Code: 550}}}}}
	rulings := ruling.Judge(policy(t, ""), []ruling.Said{v}, ruling.Case{Domains: []string{"a.example", "a.example"}, Answers: true})
	if d := decide(rulings, []ruling.Said{v}, directory.SessionScan{}, none); d.fate != Leave {
		t.Errorf("%v", d)
	}
}
