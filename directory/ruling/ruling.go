// Package ruling is what a scan policy makes of engines' verdicts: pure
// decisions, for every stage that asks engines.
//
// Guarantee: what no rule is for, and what an engine gives no verdict on, never
// passes by itself: it is held back, tagged, or waits.
package ruling

import (
	"slices"
	"time"

	"qstream/directory"
	"qstream/engine"
	"qstream/mail"
)

// Said is what an engine said of a message, and how it came to say so.
type Said struct {
	engine.Verdict
	Took   time.Duration
	Kept   bool // made for another leg with the same content
	Poison bool // the last of so many scans that broke the engine
}

// grave are the actions, the lightest first: of several the gravest counts.
var grave = []string{
	directory.ActPass, directory.ActTag, directory.ActRedirect, directory.ActForward,
	directory.ActQuarantine, directory.ActReject, directory.ActDiscard,
}

func gravity(action string) int { return slices.Index(grave, action) }

// Final reports an action by which the mail isn't delivered to its recipient.
func Final(action string) bool { return gravity(action) >= gravity(directory.ActForward) }

// held reports an action by which nobody gets the mail for now, so that it need
// wait for no engine. A copy to somebody else is a delivery.
func held(action string) bool { return gravity(action) >= gravity(directory.ActQuarantine) }

// Ruling is what becomes of a recipient.
type Ruling struct {
	Action  string
	Finding string // empty: nothing was found
	By      int    // index of the verdict that it is for
	Rule    int    // index of the policy's rule, -1: none
	Status  mail.Status
	Tags    []int // indexes of rules whose fields are added
}

// Waits reports a recipient whose fate waits for an engine.
func (r Ruling) Waits() bool { return r.Action == directory.ActWait }

// Like reports whether two recipients go the same way.
func (r Ruling) Like(o Ruling) bool {
	return r.Action == o.Action && r.Finding == o.Finding && r.By == o.By && r.Rule == o.Rule && r.Status == o.Status && slices.Equal(r.Tags, o.Tags)
}

// Case is what a ruling depends on besides the verdicts.
type Case struct {
	Domains []string // of each recipient
	Answers bool     // a refusal is told to who sent the mail, and to nobody else
	Waited  time.Duration
}

// Judge rules about each recipient by what the engines said.
func Judge(p *directory.ScanPolicy, verdicts []Said, c Case) []Ruling {
	rs := make([]Ruling, len(c.Domains))
	for i, domain := range c.Domains {
		r := Ruling{Action: directory.ActPass, By: -1, Rule: -1}
		for v := range verdicts {
			o := find(p, verdicts[v], v, i, domain, c.Waited)
			// Before it is weighed: a fall-back may be lighter than what else is found.
			if o.Action == directory.ActReject && !c.Answers {
				o.Action, o.Status = p.Fallback, mail.Status{}
			}
			r = r.with(p, o)
		}
		rs[i] = r
	}
	return rs
}

// with is a ruling after a further finding.
func (r Ruling) with(p *directory.ScanPolicy, o Ruling) Ruling {
	if o.Finding == "" {
		return r
	}
	tags := r.Tags
	if o.Rule >= 0 && len(p.Rules[o.Rule].Header)+len(p.Rules[o.Rule].Subject) > 0 {
		tags = append(slices.Clip(tags), o.Rule)
	}
	switch {
	case o.Waits():
		if !held(r.Action) && !r.Waits() {
			r = o
		}
	case r.Waits():
		if held(o.Action) {
			r = o
		}
	case r.Finding == "" || gravity(o.Action) > gravity(r.Action), r.hides(o):
		r = o
	}
	r.Tags = tags
	return r
}

// hides reports malware of which nobody would hear who lets go what was held
// for something else.
func (r Ruling) hides(o Ruling) bool {
	return o.Action == r.Action && held(r.Action) && o.Finding == directory.FindMalware && r.Finding != directory.FindMalware
}

// find is what a verdict means for a recipient: a ruling without a finding
// where it means nothing.
func find(p *directory.ScanPolicy, v Said, by, recipient int, domain string, waited time.Duration) Ruling {
	none := Ruling{By: -1, Rule: -1}
	on, own := finding(v), v.Status
	for _, refused := range v.Refusals {
		if refused.Recipient == recipient && on == "" {
			on, own = directory.FindRefused, refused.Status
		}
	}
	// An engine that doesn't score has said nothing, rather than 0.
	scored := (v.Outcome == engine.Clean || v.Outcome == engine.Spam) && (v.Score != 0 || v.Threshold != 0)
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
		return Ruling{Action: r.Action, Finding: r.On, By: by, Rule: i, Status: onlyFor(r.Action, status)}
	}
	if on == "" {
		return none
	}
	action := byDefault(on, v.Advice)
	return Ruling{Action: action, Finding: on, By: by, Rule: -1, Status: onlyFor(action, refusal(own))}
}

func onlyFor(action string, s mail.Status) mail.Status {
	if action == directory.ActReject {
		return s
	}
	return mail.Status{}
}

// Refused is what a sender is told where nobody says more.
var Refused = mail.Status{Code: 550, Enhanced: "5.7.1", Text: "refused by content policy"}

// refusal is an engine's own reply if that is one for good.
func refusal(s mail.Status) mail.Status {
	if s.Permanent() {
		return s
	}
	return Refused
}

// finding is what a verdict says against a message; empty: nothing.
func finding(v Said) string {
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
	if v.Poison {
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

// Settled reports whether no further engine can change anything. What is in
// quarantine may be let go, and what is forwarded is read: of both all is to be known.
func Settled(rs []Ruling) bool {
	return !slices.ContainsFunc(rs, func(r Ruling) bool { return gravity(r.Action) < gravity(directory.ActReject) })
}

// Waiting reports whether any recipient waits for an engine.
func Waiting(rs []Ruling) bool { return slices.ContainsFunc(rs, Ruling.Waits) }
