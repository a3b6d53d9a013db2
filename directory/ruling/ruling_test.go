package ruling

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qstream/directory"
	"qstream/engine"
	"qstream/mail"
)

func policy(t testing.TB, rules string) *directory.ScanPolicy {
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
	return s.Scan("p")
}

func by(name string, o engine.Outcome, more ...func(*Said)) Said {
	v := Said{Verdict: engine.Verdict{Engine: name, Outcome: o}}
	for _, m := range more {
		m(&v)
	}
	return v
}

func because(r engine.Reason) func(*Said) { return func(v *Said) { v.Reason = r } }
func advises(a engine.Advice) func(*Said) { return func(v *Said) { v.Advice = a } }
func scores(n float64) func(*Said)        { return func(v *Said) { v.Score, v.Threshold = n, 15 } }
func poison(v *Said)                      { v.Poison = true }

func TestJudge(t *testing.T) {
	const rules = `
fallback: discard
rules:
  - {on: malware, action: reject, status: 550 5.7.1 no}
  - {on: spam, score: 15, action: reject}
  - {on: spam, score: 8, domains: [strict.example], action: redirect, queue: junk, subject: "[junk] "}
  - {on: spam, reason: quarantine, action: quarantine}
  - {on: spam, score: 5, action: tag, header: "X-Spam: yes"}
  - {on: unscannable, reason: too large, action: pass}
  - {on: unscannable, engine: spam, action: tag}
  - {on: down, engine: spam, after: 1h, action: tag}
  - {on: refused, action: forward, address: abuse@hub.example}
`
	clean, found, late := by("clam", engine.Clean), by("clam", engine.Malware), by("spam", engine.Failed, because(engine.Late))
	for _, c := range []struct {
		name     string
		rules    string
		verdicts []Said
		domain   string
		strange  bool // who sent it isn't known
		waited   time.Duration
		action   string
		finding  string
		rule     int
	}{
		{"nothing said", "", nil, "", false, 0, "pass", "", -1},
		{"clean", "", []Said{clean, by("spam", engine.Clean)}, "", false, 0, "pass", "", -1},
		{"the zero verdict", "", []Said{{}}, "", false, 0, "wait", "down", -1},
		{"malware", "", []Said{found}, "", false, 0, "quarantine", "malware", -1},
		{"spam", "", []Said{clean, by("spam", engine.Spam)}, "", false, 0, "tag", "spam", -1},
		{"unscannable", "", []Said{by("clam", engine.Unscannable, because(engine.TooDeep))}, "", false, 0, "quarantine", "unscannable", -1},
		{"encrypted", "", []Said{by("clam", engine.Encrypted, because(engine.Archive))}, "", false, 0, "tag", "encrypted", -1},
		{"refused", "", []Said{by("clam", engine.Refused, advises(engine.Refuse))}, "", false, 0, "reject", "refused", -1},
		{"refused, discard", "", []Said{by("clam", engine.Refused, advises(engine.Discard))}, "", false, 0, "discard", "refused", -1},
		{"refused, quarantine", "", []Said{by("clam", engine.Refused, advises(engine.Quarantine))}, "", false, 0, "quarantine", "refused", -1},
		{"refused of a stranger", "", []Said{by("clam", engine.Refused)}, "", true, 0, "quarantine", "refused", -1},
		{"down for a copy to somebody else", "rules: [{on: spam, action: forward, address: junk@hub.example}]", []Said{by("spam", engine.Spam), by("clam", engine.Failed)}, "", false, 0, "wait", "down", -1},
		{"malware counts before spam", "rules: [{on: spam, action: quarantine}]", []Said{by("spam", engine.Spam), found}, "", false, 0, "quarantine", "malware", -1},
		{"spam of a stranger, and malware", "fallback: tag\nrules: [{on: spam, action: reject}]", []Said{by("spam", engine.Spam), found}, "", true, 0, "quarantine", "malware", -1},
		{"the same of a sender who is known", "fallback: tag\nrules: [{on: spam, action: reject}]", []Said{by("spam", engine.Spam), found}, "", false, 0, "reject", "spam", 0},
		{"spam of a stranger, and down", "fallback: pass\nrules: [{on: spam, action: reject}]", []Said{by("spam", engine.Spam), by("clam", engine.Failed)}, "", true, 0, "wait", "down", -1},
		{"down, and spam of a stranger", "fallback: pass\nrules: [{on: spam, action: reject}]", []Said{by("clam", engine.Failed), by("spam", engine.Spam)}, "", true, 0, "wait", "down", -1},
		{"down", "", []Said{clean, late}, "", false, 100 * time.Hour, "wait", "down", -1},
		{"down, but malware before", "", []Said{found, late}, "", false, 0, "quarantine", "malware", -1},
		{"down, spam before", "", []Said{by("clam", engine.Spam), late}, "", false, 0, "wait", "down", -1},
		{"poison", "", []Said{by("clam", engine.Failed, because(engine.Broken), poison)}, "", false, 0, "quarantine", "poison", -1},
		{"malware by rule", rules, []Said{found}, "", false, 0, "reject", "malware", 0},
		{"malware by rule, of a stranger", rules, []Said{found}, "", true, 0, "discard", "malware", 0},
		{"clean with a score below all", rules, []Said{clean, by("spam", engine.Clean, scores(4.9))}, "", false, 0, "pass", "", -1},
		{"clean with a score", rules, []Said{clean, by("spam", engine.Clean, scores(5))}, "", false, 0, "tag", "spam", 4},
		{"a score of a strict domain", rules, []Said{clean, by("spam", engine.Clean, scores(8))}, "Strict.Example", false, 0, "redirect", "spam", 2},
		{"the same of another", rules, []Said{clean, by("spam", engine.Clean, scores(8))}, "other.example", false, 0, "tag", "spam", 4},
		{"a great score", rules, []Said{clean, by("spam", engine.Spam, scores(20))}, "", false, 0, "reject", "spam", 1},
		{"advice", rules, []Said{clean, by("spam", engine.Spam, scores(9), advises(engine.Quarantine))}, "", false, 0, "quarantine", "spam", 3},
		{"spam below every rule", rules, []Said{clean, by("spam", engine.Spam, scores(3))}, "", false, 0, "tag", "spam", -1},
		{"not a number", rules, []Said{by("spam", engine.Clean, scores(math.NaN()))}, "", false, 0, "pass", "", -1},
		{"below nothing", "rules: [{on: spam, score: -5, action: tag}]", []Said{clean}, "", false, 0, "pass", "", -1},
		{"a score of nothing", "rules: [{on: spam, score: 0, action: tag}]", []Said{clean, by("spam", engine.Clean, scores(0))}, "", false, 0, "tag", "spam", 0},
		{"too large", rules, []Said{by("clam", engine.Unscannable, because(engine.TooLarge))}, "", false, 0, "pass", "unscannable", 5},
		{"too deep", rules, []Said{by("clam", engine.Unscannable, because(engine.TooDeep))}, "", false, 0, "quarantine", "unscannable", -1},
		{"too deep for the other", rules, []Said{clean, by("spam", engine.Unscannable, because(engine.TooDeep))}, "", false, 0, "tag", "unscannable", 6},
		{"down for a while", rules, []Said{clean, late}, "", false, 59 * time.Minute, "wait", "down", -1},
		{"down for long", rules, []Said{clean, late}, "", false, time.Hour, "tag", "down", 7},
		{"down for long, the other", rules, []Said{by("clam", engine.Failed)}, "", false, time.Hour, "wait", "down", -1},
		{"refused by rule", rules, []Said{by("clam", engine.Refused, advises(engine.Discard))}, "", true, 0, "forward", "refused", 8},
		{"the gravest counts", rules, []Said{by("clam", engine.Encrypted), by("spam", engine.Spam, scores(9), advises(engine.Quarantine))}, "", false, 0, "quarantine", "spam", 3},
		{"the first of two alike", rules, []Said{by("clam", engine.Encrypted), by("spam", engine.Clean, scores(6))}, "", false, 0, "tag", "encrypted", -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			rs := Judge(policy(t, c.rules), c.verdicts, Case{Domains: []string{c.domain}, Answers: !c.strange, Waited: c.waited})
			if r := rs[0]; r.Action != c.action || r.Finding != c.finding || r.Rule != c.rule {
				t.Errorf("%s for %q by rule %d, want %s for %q by %d", r.Action, r.Finding, r.Rule, c.action, c.finding, c.rule)
			}
			if (rs[0].Status != mail.Status{}) != (c.action == "reject") || c.action == "reject" && !rs[0].Status.Permanent() {
				t.Errorf("status %v of %s", rs[0].Status, c.action)
			}
		})
	}
}

// Only what is neither kept nor handed to anybody needs no further engine.
func TestSettled(t *testing.T) {
	for action, want := range map[string]bool{"pass": false, "tag": false, "redirect": false, "forward": false, "quarantine": false, "wait": false, "reject": true, "discard": true} {
		if got := Settled([]Ruling{{Action: "discard"}, {Action: action}}); got != want {
			t.Errorf("%s: settled %t", action, got)
		}
	}
}

// Recipients that an engine refuses go their own way, with the engine's words.
func TestJudgeRefusedRecipients(t *testing.T) {
	v := by("clam", engine.Clean)
	v.Refusals = []engine.Refusal{{Recipient: 1, Status: mail.Status{Code: 550, Enhanced: "5.1.1", Text: "not him"}}, {Recipient: 2, Status: mail.Status{Code: 451}}}
	rs := Judge(policy(t, ""), []Said{v}, Case{Domains: []string{"a.example", "b.example", "c.example"}, Answers: true})
	if rs[0].Action != "pass" || rs[1].Action != "reject" || rs[1].Status.Text != "not him" || rs[2].Status != Refused || rs[0].Like(rs[1]) || rs[1].Like(rs[2]) {
		t.Errorf("%+v", rs)
	}
}

// What is changed in the header, and in which order.
func TestChanges(t *testing.T) {
	p := policy(t, `
rules:
  - {on: spam, action: tag, header: ["X-Spam: yes", "X-Level: 5"], subject: "[spam] "}
  - {on: malware, action: pass}
`)
	v := by("spam", engine.Spam, scores(7.5))
	v.Changes = []engine.Change{{Kind: engine.DeleteField, Name: "X-Old"}, {Kind: engine.InsertField, Index: 2, Name: "X-New", Value: "1"}}
	list := func(verdicts ...Said) (out []string) {
		r := Judge(p, verdicts, Case{Domains: []string{""}})[0]
		for _, c := range Changes(r, verdicts, p) {
			out = append(out, c.Kind.String()[len("CHANGE_KIND_"):]+" "+c.Name+" "+string(c.Value))
		}
		return out
	}
	if d := cmp.Diff([]string{
		"DELETE X-Old ", "INSERT X-New 1", "DELETE X-Qstream-Scan ", "ADD X-Qstream-Scan spam by spam (7.5 of 15)",
		"ADD X-Spam yes", "ADD X-Level 5", "PREFIX Subject [spam] ",
	}, list(v)); d != "" {
		t.Error(d)
	}
	if got := list(by("clam", engine.Malware)); got != nil {
		t.Errorf("what passes by a rule is changed: %q", got)
	}
	bad := by("clam", engine.Encrypted, because(engine.Archive))
	bad.Name = "x\r\ny"
	if got := list(bad); len(got) != 2 || got[1] != "ADD X-Qstream-Scan encrypted by clam (x y archive)" && got[1] != "ADD X-Qstream-Scan encrypted by clam (x\r\n\ty archive)" {
		t.Errorf("%q", got)
	}
}
