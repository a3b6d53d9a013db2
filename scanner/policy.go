package scanner

import (
	"slices"
	"time"

	"qstream/directory"
	"qstream/engine"
	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
)

// said is what an engine said of a message, and how it came to say so.
type said struct {
	engine.Verdict
	took   time.Duration
	kept   bool // made for another leg with the same content
	poison bool // the last of so many scans that broke the engine
}

// grave are the actions, the lightest first: of several the gravest counts.
var grave = []string{
	directory.ActPass, directory.ActTag, directory.ActRedirect, directory.ActForward,
	directory.ActQuarantine, directory.ActReject, directory.ActDiscard,
}

func gravity(action string) int { return slices.Index(grave, action) }

// final reports an action after which nothing an engine says matters to where
// the mail goes: it isn't delivered.
func final(action string) bool { return gravity(action) >= gravity(directory.ActForward) }

// ruling is what becomes of a recipient.
type ruling struct {
	action  string
	finding string // empty: nothing was found
	by      int    // index of the verdict that it is for
	rule    int    // index of the policy's rule, -1: none
	status  mail.Status
	tags    []int // indexes of rules whose fields are added
}

// waits reports a recipient whose fate waits for an engine.
func (r ruling) waits() bool { return r.action == directory.ActWait }

// like reports whether two recipients go the same way.
func (r ruling) like(o ruling) bool {
	return r.action == o.action && r.finding == o.finding && r.by == o.by && r.rule == o.rule && r.status == o.status && slices.Equal(r.tags, o.tags)
}

// case of a leg: what a ruling depends on besides the verdicts.
type leg struct {
	domains []string // of each recipient
	answers bool     // a report goes to who sent the mail
	waited  time.Duration
}

func legOf(l *pb.Leg, now time.Time) leg {
	c := leg{answers: answerable(l)}
	for _, r := range l.Recipients {
		c.domains = append(c.domains, mail.Domain(r.Address))
	}
	if since := l.GetScan().GetSinceMs(); since > 0 {
		c.waited = now.Sub(time.UnixMilli(since))
	}
	return c
}

// answerable reports whether a refusal is told to who sent the mail, and to
// nobody whose address was made up: the client signed in or may relay, or the
// reverse-path's domain was authenticated.
func answerable(l *pb.Leg) bool {
	return l.ReversePath != "" && (l.Session.GetAuthUser() != "" || l.Session.GetRelay() || l.Verified)
}

// judge rules about each recipient by what the engines said.
func judge(p *directory.ScanPolicy, verdicts []said, c leg) []ruling {
	rs := make([]ruling, len(c.domains))
	for i, domain := range c.domains {
		r := ruling{action: directory.ActPass, by: -1, rule: -1}
		for v := range verdicts {
			r = r.with(p, find(p, verdicts[v], v, i, domain, c.waited))
		}
		if r.action == directory.ActReject && !c.answers {
			r.action, r.status = p.Fallback, mail.Status{}
		}
		rs[i] = r
	}
	return rs
}

// with is a ruling after a further finding.
func (r ruling) with(p *directory.ScanPolicy, o ruling) ruling {
	if o.finding == "" {
		return r
	}
	tags := r.tags
	if o.rule >= 0 && len(p.Rules[o.rule].Header)+len(p.Rules[o.rule].Subject) > 0 {
		tags = append(slices.Clip(tags), o.rule)
	}
	switch {
	case o.waits():
		if !final(r.action) && !r.waits() { // else it can change nothing any more
			r = o
		}
	case r.waits():
		if final(o.action) {
			r = o
		}
	case r.finding == "" || gravity(o.action) > gravity(r.action):
		r = o
	}
	r.tags = tags
	return r
}

// find is what a verdict means for a recipient: a ruling without a finding
// where it means nothing.
func find(p *directory.ScanPolicy, v said, by, recipient int, domain string, waited time.Duration) ruling {
	none := ruling{by: -1, rule: -1}
	on, own := finding(v), v.Status
	for _, refused := range v.Refusals {
		if refused.Recipient == recipient && on == "" {
			on, own = directory.FindRefused, refused.Status
		}
	}
	scored := v.Outcome == engine.Clean || v.Outcome == engine.Spam
	for i, r := range p.Rules {
		fits := r.On == on
		if r.Score != nil {
			fits = r.On == directory.FindSpam && scored && v.Score >= *r.Score
		}
		if !fits || r.Engine != "" && r.Engine != v.Engine || r.After > waited || !r.For(domain) ||
			r.Reason != "" && r.Reason != v.Reason.String() && r.Reason != v.Advice.String() {
			continue
		}
		status := r.Status
		if status == (mail.Status{}) {
			status = refusal(own)
		}
		return ruling{action: r.Action, finding: r.On, by: by, rule: i, status: onlyFor(r.Action, status)}
	}
	if on == "" {
		return none
	}
	action := byDefault(on, v.Advice)
	return ruling{action: action, finding: on, by: by, rule: -1, status: onlyFor(action, refusal(own))}
}

func onlyFor(action string, s mail.Status) mail.Status {
	if action == directory.ActReject {
		return s
	}
	return mail.Status{}
}

// refused is what a sender is told where nobody says more.
var refused = mail.Status{Code: 550, Enhanced: "5.7.1", Text: "refused by content policy"}

// refusal is an engine's own reply if that is one for good.
func refusal(s mail.Status) mail.Status {
	if s.Permanent() {
		return s
	}
	return refused
}

// finding is what a verdict says against a message; empty: nothing.
func finding(v said) string {
	switch v.Outcome {
	case engine.Clean:
		return ""
	case engine.Malware:
		return directory.FindMalware
	case engine.Spam:
		return directory.FindSpam
	case engine.Refused:
		return directory.FindRefused
	case engine.Unscannable:
		return directory.FindUnscannable
	case engine.Encrypted:
		return directory.FindEncrypted
	}
	if v.poison {
		return directory.FindPoison
	}
	return directory.FindDown
}

// byDefault is the action for a finding that no rule is for.
func byDefault(on string, advice engine.Advice) string {
	switch on {
	case directory.FindSpam, directory.FindEncrypted:
		return directory.ActTag
	case directory.FindDown:
		return directory.ActWait
	case directory.FindRefused:
		switch advice {
		case engine.Discard:
			return directory.ActDiscard
		case engine.Quarantine:
			return directory.ActQuarantine
		}
		return directory.ActReject
	}
	return directory.ActQuarantine
}

// settled reports whether no further engine can change anything.
func settled(rs []ruling) bool {
	return !slices.ContainsFunc(rs, func(r ruling) bool { return !final(r.action) })
}

// waiting reports whether any recipient waits for an engine.
func waiting(rs []ruling) bool { return slices.ContainsFunc(rs, ruling.waits) }
