package replay

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"qstream/bus"
	"qstream/directory"
	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
)

// Outcomes that a selection can ask for.
const (
	Delivered = "delivered"
	Bounced   = "bounced"
	Expired   = "expired"
	Discarded = "discarded"
	Waiting   = "waiting" // none of these yet
)

// Outcomes are all of them.
var Outcomes = []string{Delivered, Bounced, Expired, Discarded, Waiting}

// Failed stands for bounced and expired.
const Failed = "failed"

// Findings and Actions are the words for what scanning came to.
var (
	Findings = []string{
		directory.FindMalware, directory.FindSpam, directory.FindRefused, directory.FindUnscannable,
		directory.FindEncrypted, directory.FindDown, directory.FindPoison,
	}
	Actions = []string{
		directory.ActPass, directory.ActTag, directory.ActRedirect, directory.ActForward,
		directory.ActQuarantine, directory.ActReject, directory.ActDiscard,
	}
)

// Selection says which messages are meant; what is empty means any.
type Selection struct {
	Since       time.Time    `json:"since,omitzero"` // accepted at or after
	Until       time.Time    `json:"until,omitzero"` // accepted before
	IDs         []string     `json:"ids,omitempty"`
	MessageID   string       `json:"message_id,omitempty"` // the field, with or without brackets
	ReversePath mail.Pattern `json:"reverse_path,omitempty"`
	Recipient   mail.Pattern `json:"recipient,omitempty"`
	Client      string       `json:"client,omitempty"` // address it came from

	// Of these the events tell; they hold for the same recipient.
	Tenant      string   `json:"tenant,omitempty"`
	Queue       string   `json:"queue,omitempty"`
	Destination string   `json:"destination,omitempty"`
	Outcomes    []string `json:"outcomes,omitempty"`

	// What scanning said of the recipient's mail last.
	Findings []string `json:"findings,omitempty"`
	Actions  []string `json:"actions,omitempty"` // what a policy made of it
}

// Empty reports whether nothing is asked for: every message is meant.
func (s Selection) Empty() bool {
	return len(s.IDs)+len(s.Outcomes)+len(s.Findings)+len(s.Actions) == 0 && s.Since.IsZero() && s.Until.IsZero() &&
		s.MessageID+string(s.ReversePath+s.Recipient)+s.Client+s.Tenant+s.Queue+s.Destination == ""
}

// complete checks the selection and writes it as records do.
func (s Selection) complete() (Selection, error) {
	if !s.Until.IsZero() && !s.Since.Before(s.Until) {
		return s, errors.New("the time ends before it begins")
	}
	s.IDs = slices.Clone(s.IDs)
	for i, id := range s.IDs {
		if _, ok := mail.IDTime(id); !ok {
			return s, fmt.Errorf("%s: not a message id", mail.Printable(id))
		}
		s.IDs[i] = strings.ToUpper(id) // a person may have typed it in lower case
	}
	for _, p := range []*mail.Pattern{&s.ReversePath, &s.Recipient} {
		var err error
		if *p, err = mail.ParsePattern(string(*p)); err != nil {
			return s, err
		}
	}
	if s.Recipient == mail.NullPattern {
		return s, errors.New("<>: no recipient is the null path")
	}
	var outcomes []string
	for _, o := range s.Outcomes {
		switch {
		case o == Failed:
			outcomes = append(outcomes, Bounced, Expired)
		case slices.Contains(Outcomes, o):
			outcomes = append(outcomes, o)
		default:
			return s, fmt.Errorf("outcome %s: want %s or %s", mail.Printable(o), strings.Join(Outcomes, ", "), Failed)
		}
	}
	s.Outcomes = outcomes
	if err := words("finding", s.Findings, Findings); err != nil {
		return s, err
	}
	if err := words("action", s.Actions, Actions); err != nil {
		return s, err
	}
	s.MessageID = bare(s.MessageID)
	slices.Sort(s.IDs)
	// An id tells when it was made, so that history needn't be read from its
	// beginning; clocks of edges may be off by some minutes.
	if s.Since.IsZero() && len(s.IDs) > 0 {
		made, _ := mail.IDTime(s.IDs[0])
		s.Since = made.Add(-clocks)
	}
	return s, nil
}

// Begin is where what is told of the messages begins on other topics; zero: with
// the oldest record.
func (s Selection) Begin() (time.Time, error) {
	s, err := s.complete()
	return s.about(nil).Since, err
}

// about is where the events about the messages begin. Their brokers' clocks may
// be behind those that took the messages.
func (s Selection) about(pace *bus.Pace) bus.Start {
	start := bus.Start{Since: s.Since, Pace: pace}
	if !s.Since.IsZero() {
		start.Since = s.Since.Add(-clocks)
	}
	return start
}

// words refuses what is none of those that there are.
func words(what string, asked, known []string) error {
	for _, w := range asked {
		if !slices.Contains(known, w) {
			return fmt.Errorf("%s %s: want %s", what, mail.Printable(w), strings.Join(known, ", "))
		}
	}
	return nil
}

func bare(messageID string) string { return strings.Trim(strings.TrimSpace(messageID), "<>") }

// asksEvents reports whether received records alone can't tell.
func (s Selection) asksEvents() bool {
	return s.Tenant != "" || s.Queue != "" || s.Destination != "" || len(s.Outcomes) > 0 || s.asksVerdict()
}

// asksVerdict reports whether what scanning said matters.
func (s Selection) asksVerdict() bool { return len(s.Findings)+len(s.Actions) > 0 }

// verdict reports whether what scanning said last is meant.
func (s Selection) verdict(v verdict) bool {
	return (len(s.Findings) == 0 || slices.Contains(s.Findings, v.finding)) &&
		(len(s.Actions) == 0 || slices.Contains(s.Actions, v.action))
}

// during reports whether something accepted at t is meant.
func (s Selection) during(t time.Time) bool {
	return !t.Before(s.Since) && (s.Until.IsZero() || t.Before(s.Until))
}

// ids reports whether an id is meant.
func (s Selection) ids(id string) bool {
	if len(s.IDs) == 0 {
		return true
	}
	_, ok := slices.BinarySearch(s.IDs, id)
	return ok
}

// scope reports whether an event is about a leg that is meant.
func (s Selection) scope(e *pb.Event) bool {
	return (s.Tenant == "" || e.Tenant == s.Tenant) && (s.Queue == "" || e.Queue == s.Queue) &&
		(s.Destination == "" || strings.EqualFold(e.Destination, s.Destination))
}

// message reports whether what a received record tells is meant.
func (s Selection) message(r *pb.Received) bool {
	return s.ids(r.Id) && (s.MessageID == "" || bare(r.HeaderMessageId) == s.MessageID) &&
		s.ReversePath.Matches(r.GetEnvelope().GetReversePath()) &&
		(s.Client == "" || r.GetSession().GetClientIp() == s.Client)
}

// recipients are those of an envelope that are meant.
func (s Selection) recipients(r *pb.Received, t *told) []*pb.Recipient {
	var meant []*pb.Recipient
	for _, to := range r.GetEnvelope().GetRecipients() {
		if s.Recipient.Matches(to.Address) && (!t.asked() || t.meant(r.Id, to.Number)) {
			meant = append(meant, to)
		}
	}
	return meant
}
