// Package control holds the standing state that people order (suspensions)
// and the commands that happen once (flush, orders about the quarantine, and to
// scan again), as every role follows them.
//
// Guarantee: a State never changes; whether a leg is suspended is a function
// of a State and the leg's scope alone.
// Guarantee: of two commands sent on one base exactly one counts, and Send
// goes on until its own did; commands are applied in one order everywhere.
// Guarantee: what can't be read on the topic changes nothing and stops nobody.
//
// It only says what is ordered. Deliver and delay obey: they attempt nothing
// in a suspended scope, and release at a flush or resume.
package control

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
)

// Verbs of commands.
const (
	Suspend = "suspend" // standing: no attempt in the scope until resume
	Resume  = "resume"
	Flush   = "flush" // once: what waits in delay is due now
	// ResumeHeld lets mail in the scope go on that was held at a quota and
	// accepted before the command.
	ResumeHeld = "resume held"
)

// Errors of Send that are the sender's own.
var (
	// ErrNotSuspended is a resume of a scope that has no suspension.
	ErrNotSuspended = errors.New("no suspension of exactly this scope")
	// ErrScope is a scope that the verb can't have.
	ErrScope = errors.New("scope not possible")
)

// Scope is what a command is about; empty fields match everything.
type Scope struct{ Tenant, Queue, Destination, MessageID string }

// Matches reports whether a leg is in the scope.
func (s Scope) Matches(tenant, queue, destination, messageID string) bool {
	return (s.Tenant == "" || s.Tenant == tenant) &&
		(s.Queue == "" || s.Queue == queue) &&
		(s.Destination == "" || s.Destination == destination) &&
		(s.MessageID == "" || s.MessageID == messageID)
}

// String is the scope as flags write it; "everything" if it is empty.
func (s Scope) String() string {
	var parts []string
	for _, p := range []struct{ name, value string }{
		{"tenant", s.Tenant}, {"queue", s.Queue}, {"destination", s.Destination}, {"id", s.MessageID},
	} {
		if p.value != "" {
			parts = append(parts, p.name+" "+mail.Printable(p.value))
		}
	}
	if len(parts) == 0 {
		return "everything"
	}
	return strings.Join(parts, " ")
}

// normal is the scope as legs carry it: domains in lower case and A-labels.
func (s Scope) normal() Scope {
	clean := func(v string) string { return strings.ToValidUTF8(strings.TrimSpace(v), "?") }
	s = Scope{clean(s.Tenant), clean(s.Queue), clean(s.Destination), clean(s.MessageID)}
	if !strings.Contains(s.Destination, "/") {
		s.Destination = mail.NormalDomain(s.Destination)
	}
	return s
}

// Command is one command as roles see it.
type Command struct {
	Number uint64
	Verb   string
	Scope  Scope
	At     time.Time // append time
	Actor  string
	Reason string

	Held   []*pb.HeldLeg // for Release, Delete and ScanAgain: which, at most MaxHeld
	Rescan bool          // for Release
	Job    string        // for ScanAgain: the undertaking

	Webhook string    // for verbs about webhooks
	Since   time.Time // for RewindWebhook
	// Before is for PauseWebhook: what it is about began before the command of
	// this number. If the webhook was resumed by that or a later one, that stands.
	// 0: the pause holds.
	Before uint64
}

var verbs = map[string]pb.Verb{
	Suspend: pb.Verb_VERB_SUSPEND,
	Resume:  pb.Verb_VERB_RESUME,
	Flush:   pb.Verb_VERB_FLUSH,
	Release: pb.Verb_VERB_RELEASE,
	Delete:  pb.Verb_VERB_DELETE,

	ResumeHeld: pb.Verb_VERB_RESUME_HELD,
	ScanAgain:  pb.Verb_VERB_SCAN_AGAIN,

	PauseWebhook:  pb.Verb_VERB_PAUSE_WEBHOOK,
	ResumeWebhook: pb.Verb_VERB_RESUME_WEBHOOK,
	RewindWebhook: pb.Verb_VERB_REWIND_WEBHOOK,
}

func verbName(v pb.Verb) string {
	for name, verb := range verbs {
		if verb == v {
			return name
		}
	}
	return ""
}

// complete checks a command before it is sent.
func (c Command) complete() (Command, error) {
	if _, ok := verbs[c.Verb]; !ok {
		return c, fmt.Errorf("unknown verb %q", mail.Printable(c.Verb))
	}
	c.Scope = c.Scope.normal()
	if c.Verb != Flush && c.Scope.MessageID != "" {
		return c, fmt.Errorf("%w: %s takes no message id", ErrScope, c.Verb)
	}
	if err := c.checkHeld(); err != nil {
		return c, err
	}
	if err := c.checkWebhook(); err != nil {
		return c, err
	}
	c.Actor = mail.Printable(strings.ToValidUTF8(c.Actor, " "))
	c.Reason = mail.Printable(strings.ToValidUTF8(c.Reason, " "))
	return c, nil
}
