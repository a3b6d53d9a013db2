package scan

import (
	"qstream/directory"
	"qstream/directory/ruling"
	"qstream/engine"
	"qstream/mail"
)

// Fate is what becomes of a message at its end.
type Fate uint8

const (
	Defer  Fate = iota // for now; also of what nobody decided
	Accept             // as it is, or marked
	Leave              // accept, and let the scanners ask the policy before anything is delivered
	Refuse
)

var fates = [...]string{"deferred", "accepted", "left", "refused"}

// String is the fate in lower case, as in the metric.
func (f Fate) String() string { return fates[f] }

// trouble is why a message could not be scanned in its session.
type trouble uint8

const (
	none trouble = iota
	busy         // no room for the scan in time
	late         // no verdict in time
	down         // an engine is down, or failed
)

var troubles = [...]string{"none", "busy", "late", "down"}

func (t trouble) String() string { return troubles[t] }

// What a client is told whose mail can't be scanned now, or that an engine
// wants to come again.
var (
	tooBusy  = mail.Status{Code: 451, Enhanced: "4.3.2", Text: "too much to scan at the moment, try again later"}
	tooLate  = mail.Status{Code: 451, Enhanced: "4.7.1", Text: "scanning takes too long at the moment, try again later"}
	noEngine = mail.Status{Code: 451, Enhanced: "4.7.1", Text: "cannot be scanned at the moment, try again later"}
	again    = mail.Status{Code: 451, Enhanced: "4.7.1", Text: "not accepted at the moment, try again later"}
)

// decision is a fate with the reply where it isn't acceptance.
type decision struct {
	fate   Fate
	status mail.Status
}

// decide is what becomes of a message, by the rulings about its recipients. It
// has one reply for all of them: what the policy wants for some of them only,
// and what it wants done other than refusing, passing and marking, is left to the
// scanners. An engine that failed never refuses.
func decide(rulings []ruling.Ruling, verdicts []ruling.Said, s directory.SessionScan, t trouble) decision {
	if status, ok := refused(rulings, verdicts); ok {
		return decision{Refuse, status}
	}
	if status, ok := deferred(verdicts); ok {
		return decision{Defer, status}
	}
	if t == none && failed(verdicts) {
		t = down
	}
	switch t {
	case busy:
		return fallBack(s.Busy, tooBusy)
	case late:
		return fallBack(s.Late, tooLate)
	case down:
		return fallBack(s.Down, noEngine)
	}
	first := rulings[0]
	for _, r := range rulings[1:] {
		if !r.Like(first) {
			return decision{fate: Leave}
		}
	}
	if first.Action == directory.ActPass || first.Action == directory.ActTag {
		return decision{fate: Accept}
	}
	return decision{fate: Leave}
}

func fallBack(to string, otherwise mail.Status) decision {
	if to == directory.AtStage {
		return decision{fate: Leave}
	}
	return decision{Defer, otherwise}
}

// refused reports a message that the policy refuses for every recipient, and
// with which reply.
func refused(rulings []ruling.Ruling, verdicts []ruling.Said) (mail.Status, bool) {
	for _, r := range rulings {
		if r.Action != directory.ActReject || r.By < 0 || verdicts[r.By].Outcome == engine.Failed {
			return mail.Status{}, false
		}
	}
	status := rulings[0].Status
	if status == ruling.Refused { // nobody has words of his own
		status.Code = 554
	}
	return status, true
}

// deferred reports an engine that wants the message to come again, and its
// words.
func deferred(verdicts []ruling.Said) (mail.Status, bool) {
	for _, v := range verdicts {
		switch {
		case v.Advice != engine.Defer:
		case v.Status.Code/100 == 4:
			return v.Status, true
		default:
			return again, true
		}
	}
	return mail.Status{}, false
}

func failed(verdicts []ruling.Said) bool {
	for _, v := range verdicts {
		if v.Outcome == engine.Failed {
			return true
		}
	}
	return false
}
