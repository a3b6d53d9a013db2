package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"qstream/bus"
	"qstream/directory"
	"qstream/mail"
	"qstream/replay"
)

// replayCmd reads mail history again.
type replayCmd struct {
	List      replayListCmd      `cmd:"" help:"List, or count, the messages of a selection."`
	Export    replayExportCmd    `cmd:"" help:"Write messages to files, a mailbox or lines of JSON."`
	Bundle    replayBundleCmd    `cmd:"" help:"Bind messages and all that is known of them into signed evidence, for verify."`
	Redeliver replayRedeliverCmd `cmd:"" help:"Deliver messages again, as new ones that name the old."`
	Resume    replayResumeCmd    `cmd:"" help:"Go on with a redelivery that ended before its end."`
}

// selectFlags say which messages of the past are meant; all of them must fit.
type selectFlags struct {
	Since       moment   `placeholder:"WHEN" help:"Accepted since then: a time (RFC 3339), or so many s, m, h or d ago. Default: as far back as there is mail."`
	Until       moment   `placeholder:"WHEN" help:"Accepted before then."`
	ID          []string `name:"id" placeholder:"ID" help:"Messages of these ids."`
	MessageID   string   `name:"message-id" placeholder:"TEXT" help:"Messages with this Message-ID field."`
	ReversePath string   `placeholder:"ADDRESS" help:"From this reverse-path: an address, @domain, or <> for the null one."`
	Recipient   string   `placeholder:"ADDRESS" help:"To this recipient: an address or @domain."`
	Client      string   `placeholder:"IP" help:"From this client."`
	Tenant      string   `placeholder:"NAME" help:"Recipients of this tenant."`
	Queue       string   `placeholder:"NAME" help:"Recipients whose leg went through this queue."`
	Destination string   `placeholder:"DESTINATION" help:"Recipients whose leg went to this destination."`
	Outcome     []string `placeholder:"OUTCOME" help:"Recipients that were delivered, bounced, expired or discarded, that failed (bounced or expired), or that are waiting."`
	Finding     []string `placeholder:"FINDING" help:"Recipients in whose mail a scan last found that: malware, spam, refused, unscannable, encrypted, down or poison."`
	Action      []string `placeholder:"ACTION" help:"Recipients of whose mail a scan policy last made that: pass, tag, redirect, forward, quarantine, reject or discard."`
}

func (f selectFlags) selection(now time.Time) replay.Selection {
	return replay.Selection{
		Since: f.Since.at(now), Until: f.Until.at(now), IDs: f.ID, MessageID: f.MessageID,
		ReversePath: mail.Pattern(f.ReversePath), Recipient: mail.Pattern(f.Recipient), Client: f.Client,
		Tenant: f.Tenant, Queue: f.Queue, Destination: f.Destination, Outcomes: f.Outcome,
		Findings: f.Finding, Actions: f.Action,
	}
}

// narrowed refuses a selection of everything where that is hardly meant.
func (f selectFlags) narrowed(now time.Time) (replay.Selection, error) {
	s := f.selection(now)
	if s.Empty() {
		return s, usagef("say which messages are meant: --since, --id, --recipient, --tenant, --outcome or another")
	}
	if !s.Until.IsZero() && !s.Since.Before(s.Until) {
		return s, usagef("--until: the time ends before it begins, at --since")
	}
	return s, nil
}

// open finds the history, and refuses a tenant that there isn't: its name is
// misspelt, and nothing would be selected in silence.
func (f selectFlags) open(ctx context.Context, sys *System) (*replay.History, func(), error) {
	b, err := sys.Open(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := (scopeFlags{Tenant: f.Tenant}).known(ctx, b); err != nil {
		b.Close()
		return nil, nil, err
	}
	return &replay.History{Bus: b, Pace: bus.Gently()}, b.Close, nil
}

// moment is a flag: a time, or how long ago it was.
type moment struct {
	time time.Time
	ago  time.Duration
}

// UnmarshalText reads "2026-01-02T15:04:05Z" or "36h".
func (m *moment) UnmarshalText(text []byte) error {
	if t, err := time.Parse(time.RFC3339, string(text)); err == nil {
		m.time = t
		return nil
	}
	d, err := directory.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%s: want a time such as 2026-01-02T15:04:05Z, or how long ago, such as 36h", mail.Printable(string(text)))
	}
	m.ago = d
	return nil
}

func (m moment) at(now time.Time) time.Time {
	if m.ago > 0 {
		return now.Add(-m.ago)
	}
	return m.time
}

// describe is a selection as the audit keeps it.
func describe(s replay.Selection) string {
	text, err := json.Marshal(s)
	if err != nil { // of strings and times: can't be
		return err.Error()
	}
	return string(text)
}

// progress tells people now and then how far something is.
type progress struct {
	w    io.Writer
	last time.Time
}

func (p *progress) say(format string, args ...any) {
	now := time.Now()
	if p.last.IsZero() {
		p.last = now
	}
	if now.Sub(p.last) >= 2*time.Second {
		p.last = now
		fmt.Fprintf(p.w, format+"\n", args...)
	}
}
