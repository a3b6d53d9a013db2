package directory

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"qstream/engine"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// Findings that the rules of a scan policy are for.
const (
	FindMalware     = "malware"
	FindSpam        = "spam"
	FindRefused     = "refused" // an engine wants it refused and says no more
	FindUnscannable = "unscannable"
	FindEncrypted   = "encrypted"
	FindDown        = "down"   // an engine gives no verdict at present
	FindPoison      = "poison" // scanning it broke an engine, again and again
)

// Actions of scan policies.
const (
	ActPass       = "pass"
	ActTag        = "tag" // deliver, with header fields
	ActRedirect   = "redirect"
	ActForward    = "forward" // to somebody else, instead of the recipients
	ActQuarantine = "quarantine"
	ActReject     = "reject" // report to the sender
	ActDiscard    = "discard"
	ActWait       = "wait" // until the engine is back
	ActRelease    = "release"
)

// ScanPolicy is what engines are asked about mail, and what becomes of it.
type ScanPolicy struct {
	Name        string
	Engines     []string // asked in this order
	Concurrency int      // messages at once of each tenant in each queue, in each scanner process; default 16
	Rules       []ScanRule
	Fallback    string        // instead of a report that may go to somebody who sent nothing: quarantine (default), discard, tag or pass
	Tries       int           // after how many breaks of an engine mail is poison; default 5
	Keep        time.Duration // in quarantine; default 30 d
	Then        string        // after that: ActDiscard (default) or ActRelease
	Shadow      string        // the policy that it is compared with where nobody names another; empty: none
}

// ScanRule says what becomes of mail with a finding. The first rule of a
// policy that fits a finding decides about it; of several findings the gravest
// action counts.
type ScanRule struct {
	On      string
	Engine  string        // only findings of this engine; empty: of any
	Reason  string        // only with this reason of the verdict, or advice; empty: any
	Score   *float64      // of spam: whatever the engine says, from this score on
	Domains []string      // of recipients: exact, ".suffix" or "*"; empty: all
	After   time.Duration // of down: only after so long a wait
	Action  string

	Queue   string      // of redirect
	Address string      // of forward
	Status  mail.Status // of reject
	Header  []string    // of tag, redirect, forward: fields that are added, "Name: value"
	Subject string      // of tag, redirect, forward: put before the subject
}

const (
	maxScanRules  = 100
	maxScanEngine = 16
	maxScanFields = 8
)

func newScanPolicy() *ScanPolicy {
	return &ScanPolicy{Concurrency: 16, Fallback: ActQuarantine, Tries: 5, Keep: 30 * day, Then: ActDiscard}
}

var scanKeys = []key[ScanPolicy]{
	{"kind", func(_ *ScanPolicy, v *value) { v.text() }},
	{"name", func(p *ScanPolicy, v *value) { p.Name = parsed(v, parseName) }},
	{"engines", func(p *ScanPolicy, v *value) {
		v.list(maxScanEngine, func(e *value) { p.Engines = append(p.Engines, parsed(e, parseName)) })
	}},
	{"concurrency", func(p *ScanPolicy, v *value) { p.Concurrency = int(v.integer(1, 1000)) }},
	{"rules", func(p *ScanPolicy, v *value) {
		v.list(maxScanRules, func(e *value) {
			var r ScanRule
			nested(e, &r, scanRuleKeys)
			r.complete(e)
			p.Rules = append(p.Rules, r)
		})
	}},
	{"fallback", func(p *ScanPolicy, v *value) { p.Fallback = v.oneOf(ActQuarantine, ActDiscard, ActTag, ActPass) }},
	{"tries", func(p *ScanPolicy, v *value) { p.Tries = int(v.integer(1, 100)) }},
	{"quarantine", func(p *ScanPolicy, v *value) { nested(v, p, quarantineKeys) }},
	{"shadow", func(p *ScanPolicy, v *value) { p.Shadow = parsed(v, parseName) }},
}

var quarantineKeys = []key[ScanPolicy]{
	{"keep", func(p *ScanPolicy, v *value) { p.Keep = v.duration(time.Second, 365*day) }},
	{"then", func(p *ScanPolicy, v *value) { p.Then = v.oneOf(ActDiscard, ActRelease) }},
}

var scanRuleKeys = []key[ScanRule]{
	{"on", func(r *ScanRule, v *value) {
		r.On = v.oneOf(FindMalware, FindSpam, FindRefused, FindUnscannable, FindEncrypted, FindDown, FindPoison)
	}},
	{"engine", func(r *ScanRule, v *value) { r.Engine = parsed(v, parseName) }},
	{"reason", func(r *ScanRule, v *value) { r.Reason = v.oneOf(scanReasons...) }},
	{"score", func(r *ScanRule, v *value) { n := v.number(-1e6, 1e6); r.Score = &n }},
	{"domains", func(r *ScanRule, v *value) {
		v.list(maxDomains, func(e *value) { r.Domains = append(r.Domains, parsed(e, parsePattern)) })
	}},
	{"after", func(r *ScanRule, v *value) { r.After = v.duration(0, maxDuration) }},
	{"action", func(r *ScanRule, v *value) {
		r.Action = v.oneOf(ActPass, ActTag, ActRedirect, ActForward, ActQuarantine, ActReject, ActDiscard, ActWait)
	}},
	{"queue", func(r *ScanRule, v *value) { r.Queue = parsed(v, parseName) }},
	{"address", func(r *ScanRule, v *value) { r.Address = parsed(v, parseMailbox) }},
	{"status", func(r *ScanRule, v *value) { r.Status = parsed(v, parseRefusal) }},
	{"header", func(r *ScanRule, v *value) {
		v.list(maxScanFields, func(e *value) { r.Header = append(r.Header, parsed(e, parseField)) })
	}},
	{"subject", func(r *ScanRule, v *value) {
		if r.Subject = v.text(); len(r.Subject) > 100 {
			v.fail("is longer than 100 octets")
		}
	}},
}

// scanReasons are the words of verdicts that a rule may ask for.
var scanReasons = []string{
	engine.TooLarge.String(), engine.TooDeep.String(), engine.TooMany.String(), engine.TooLong.String(),
	engine.Damaged.String(), engine.NotSupported.String(), engine.OutOfScope.String(), engine.Archive.String(), engine.Message.String(),
	engine.Unreachable.String(), engine.Late.String(), engine.Broken.String(), engine.Trouble.String(),
	engine.Tag.String(), engine.Quarantine.String(), engine.Discard.String(), engine.Refuse.String(),
}

func parseRefusal(s string) (mail.Status, error) {
	status, err := parseStatus(s)
	if err == nil && status.Temporary() {
		err = fmt.Errorf("%q is temporary: mail that was scanned is refused for good, or waits in quarantine", s)
	}
	return status, err
}

// parseField checks a header field.
func parseField(s string) (string, error) {
	name, text, ok := strings.Cut(s, ":")
	c, err := engine.NewChange(engine.AddField, 0, name, text)
	if err != nil || !ok || mail.Printable(s) != s || len(s) > 500 {
		return "", fmt.Errorf("%q is no header field: write \"X-Name: text\", up to 500 octets", s)
	}
	return name + ": " + c.Value, nil
}

// complete checks what belongs together.
func (r *ScanRule) complete(v *value) {
	has := func(given bool, key string, actions ...string) {
		switch fits := slices.Contains(actions, r.Action); {
		case given && !fits:
			v.fail("%s is for action %s", key, strings.Join(actions, ", "))
		case !given && fits && len(actions) == 1 && key != "status":
			v.fail("action %s needs %s", r.Action, key)
		}
	}
	if r.On == "" || r.Action == "" {
		v.fail("a rule needs on and action")
		return
	}
	has(r.Queue != "", "queue", ActRedirect)
	has(r.Address != "", "address", ActForward)
	has(r.Status != mail.Status{}, "status", ActReject)
	has(len(r.Header) > 0, "header", ActTag, ActRedirect, ActForward)
	has(r.Subject != "", "subject", ActTag, ActRedirect, ActForward)
	switch {
	case r.Score != nil && r.On != FindSpam:
		v.fail("score is for on: spam")
	case r.After > 0 && r.On != FindDown:
		v.fail("after is for on: down")
	case r.Action == ActWait && r.On != FindDown:
		v.fail("action wait is for on: down")
	}
}

// completeScan checks what belongs together.
func (r *reading) completeScan(p *ScanPolicy, body ast.Node) {
	if _, given := r.lines["engines"]; !given {
		r.fail(body, "engines is missing")
	}
	for i, name := range p.Engines {
		if slices.Contains(p.Engines[:i], name) {
			r.fail(body, "engine %s is named twice", name)
		}
	}
	for i, rule := range p.Rules {
		if rule.Engine != "" && !slices.Contains(p.Engines, rule.Engine) {
			r.fail(body, "rule %d is about engine %s, which the policy doesn't ask", i+1, rule.Engine)
		}
	}
}

// For reports whether the rule is for recipients of a domain.
func (r *ScanRule) For(domain string) bool {
	if len(r.Domains) == 0 {
		return true
	}
	set := patterns[bool]{}
	for _, d := range r.Domains {
		set[d] = true
	}
	_, _, ok := set.find(mail.NormalDomain(domain))
	return ok
}

// checkScan refuses names that stand for nothing.
func (c *checker) checkScan(d *Document, p *ScanPolicy) {
	c.shadowNamed(d, p.Shadow, p.Name, p.Name)
	for i, name := range p.Engines {
		if c.engines[name] == nil {
			c.fail(d, element("engines", i), "there is no engine %q", name)
		}
	}
	for i, r := range p.Rules {
		if r.Queue != "" && c.queues[r.Queue] == nil {
			c.fail(d, element("rules", i), "there is no queue %q", r.Queue)
		}
	}
}

// Scan finds a scan policy by name; nil if none.
func (s *Snapshot) Scan(name string) *ScanPolicy { return s.scans[name] }

// Believed is what the scan within a message's session is worth as it is
// routed: scan itself, or, where its policy asks other engines in this snapshot,
// or the same with other settings, that policy owed. Nobody asks more by a policy that is gone.
func (s *Snapshot) Believed(scan *pb.Scan) *pb.Scan {
	if !scan.GetOfRule() || scan.Directory == s.Number {
		return scan
	}
	p := s.Scan(scan.Policy)
	if p == nil {
		return scan
	}
	same := slices.EqualFunc(scan.Verdicts, p.Engines, func(v *pb.Verdict, engine string) bool { return v.Engine == engine })
	if same && (len(scan.Engines) == 0 || bytes.Equal(scan.Engines, s.EnginesOf(p))) {
		return scan
	}
	return schemas.Owed(p.Name, scan.Verdicts)
}

// EnginesOf tells the engines of a policy from those that it may ask one day by
// the same names: it is a hash of what they are made of.
func (s *Snapshot) EnginesOf(p *ScanPolicy) []byte {
	h := sha256.New()
	for _, name := range p.Engines {
		fmt.Fprintf(h, "%q\n", s.Engine(name).Spec.Settings())
	}
	return h.Sum(nil)[:8]
}

// scanOf is the name of the policy for a tenant's mail in a queue; empty: none.
// The tenant's own comes before its queue's.
func scanOf(t *Tenant, q *Queue) string {
	if t.Scan != "" {
		return t.Scan
	}
	return q.Scan
}

// scanned finds the queues that mail with a scan policy may go through.
func (s *Snapshot) scanned() {
	routed := map[string]bool{}
	for _, routes := range []patterns[*Route]{s.routes, s.nullRoutes} {
		for _, r := range routes {
			routed[r.Queue] = r.Queue != ""
		}
	}
	for _, t := range s.tenants {
		if t.Scan == "" {
			continue
		}
		for _, q := range s.queues {
			q.Scanned = q.Scanned || q.Name == t.Queue || routed[q.Name]
		}
	}
	owing := s.scansSessions()
	for _, q := range s.queues {
		q.Scanned = q.Scanned || q.Scan != "" || owing
	}
}
