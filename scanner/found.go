package scanner

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/directory"
	"qstream/directory/ruling"
	"qstream/engine"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// foundAgain is what an answer about the past comes to: the offer once more, or
// a result with its events.
type foundAgain struct {
	again  *pb.Rescan
	result *pb.RescanResult
	events []*pb.Event
	bad    []uint32 // numbers of recipients
}

// isBad reports a ruling by which mail of the past should not have been
// delivered: malware, whatever a rule makes of it, and what is found against it
// else if it would not go to its recipient today.
func isBad(r ruling.Ruling) bool {
	switch r.Finding {
	case directory.FindMalware:
		return true
	case directory.FindSpam, directory.FindRefused:
		return ruling.Final(r.Action)
	}
	return false
}

// findAgain decides about an offer by what engines said. One that an engine
// gave no verdict on comes back, until it is given up; what the others said
// counts then.
func findAgain(o *pb.Rescan, a answer, sc scene) foundAgain {
	missing := ""
	if i := slices.IndexFunc(a.verdicts, noVerdict); i >= 0 {
		first := a.verdicts[i]
		if next, ok := later(o, a, first.Reason == engine.Unreadable, sc.now); ok && !slices.ContainsFunc(a.rulings, isBad) {
			return foundAgain{again: next}
		}
		missing = first.Engine + ": " + first.Reason.String()
		a.verdicts = slices.DeleteFunc(slices.Clone(a.verdicts), noVerdict)
		a.rulings = ruling.Judge(sc.policy, a.verdicts, caseOf(o.Leg, sc.now))
	}
	f := foundAgain{result: &pb.RescanResult{Outcome: schemas.OfferClean, Policy: sc.policy.Name}}
	for _, p := range partsOf(o.Leg.Recipients, a.rulings) {
		switch {
		case isBad(p.Ruling):
			f.found(o, p, a, sc)
		case f.result.Outcome == schemas.OfferClean && (p.Finding == directory.FindUnscannable || p.Finding == directory.FindEncrypted || p.Finding == directory.FindPoison):
			f.tell(schemas.OfferUnscannable, p, a)
		}
	}
	if missing != "" && f.result.Outcome != schemas.OfferBad {
		f.result.Outcome, f.result.Text = schemas.OfferGivenUp, strings.ToValidUTF8(missing, "?")
	}
	return f
}

// later is the offer as it comes back; ok is false if it is given up.
func later(o *pb.Rescan, a answer, unreadable bool, now time.Time) (next *pb.Rescan, ok bool) {
	waits := o.Leg.GetScan().GetWaits()
	if !now.Before(time.UnixMilli(o.UntilMs)) || unreadable && waits >= unreadableAfter {
		return nil, false
	}
	next = proto.CloneOf(o)
	next.Leg.Scan = &pb.Scan{Waits: waits + 1, Tries: o.Leg.GetScan().GetTries()}
	if a.poison {
		next.Leg.Scan.Tries++
	}
	next.DueMs = min(now.Add(min(againFirst<<min(waits, 10), againLast)).UnixMilli(), o.UntilMs)
	return next, true
}

func (f *foundAgain) tell(outcome string, p *part, a answer) {
	f.result.Outcome, f.result.Finding, f.result.Action = outcome, p.Finding, p.Action
	if p.By >= 0 {
		f.result.Text = strings.ToValidUTF8(p.Tells(a.verdicts), "?")
	}
}

// found tells of a part of a leg that is bad, unless it was told before.
func (f *foundAgain) found(o *pb.Rescan, p *part, a answer, sc scene) {
	f.tell(schemas.OfferBad, p, a)
	for _, r := range p.recipients {
		f.bad = append(f.bad, r.Number)
	}
	l := proto.CloneOf(o.Leg)
	l.Recipients, l.Scan = p.recipients, &pb.Scan{Action: p.Action, Finding: p.Finding}
	e := event(pb.EventType_EVENT_TYPE_FOUND_BAD, l, a, sc)
	e.Id, e.Job, e.Waiting = foundID(o, p, a.verdicts), o.Job, o.Waiting
	if e.Id == o.Found {
		f.result.Told = true
		return
	}
	f.events = append(f.events, e)
}

// foundID is the event's id: a function of what is found in which mail. The
// same finding by another job, or newer signatures, is no news; mail that waited
// then and is delivered by now is.
func foundID(o *pb.Rescan, p *part, verdicts []ruling.Said) string {
	sum := sha256.New()
	v := verdicts[p.By]
	fmt.Fprintf(sum, "%d\x00%v\x00%s\x00%s\x00%s", o.Leg.Number, o.Waiting, p.Finding, v.Engine, mail.Printable(v.Name))
	for _, r := range p.recipients {
		fmt.Fprintf(sum, "\x00%d", r.Number)
	}
	return o.Leg.MessageId + ".bad." + hex.EncodeToString(sum.Sum(nil)[:8])
}
