package audit

import (
	"cmp"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"
)

// Places where recipients wait. Moving is between two of them: their events
// tell so.
const (
	AtReceived   = "received"
	AtReinject   = "reinject"
	AtQueue      = "queue"
	AtDelay      = "delay"
	AtParked     = "parked"
	AtDeadletter = "deadletter"
	AtScan       = "scan"
	AtQuarantine = "quarantine"
	Moving       = "moving"
)

var places = []string{AtReceived, AtReinject, AtQueue, AtDelay, AtParked, AtDeadletter, AtScan, AtQuarantine, Moving}

// What a Finding is about.
const (
	// Missing: neither ended nor in any unfinished record.
	Missing = "missing"
	// Repeated: ended more than once.
	Repeated = "repeated"
	// Undead: waits in an unfinished record though it ended.
	Undead = "ended_but_waits"
	// Unannounced: waits, or ended, and no event ever opened it.
	Unannounced = "unannounced"
)

// Unfinished is a recipient of an unfinished record.
type Unfinished struct {
	ID      ulid.ULID
	Number  uint32
	Address string
	Tenant  string // may be empty before the router
	Queue   string // empty before the router
	Place   string // AtReceived ... AtDeadletter
	// Fresh: the record may be the first that tells of the recipient, so that
	// no event has to.
	Fresh     bool
	Topic     string
	Partition int32
	Offset    int64
}

// Finding is a recipient whose account doesn't balance.
type Finding struct {
	What      string    `json:"what"`
	MessageID string    `json:"message_id"`
	Recipient uint32    `json:"recipient"`
	Address   string    `json:"address"`
	Tenant    string    `json:"tenant"`
	Queue     string    `json:"queue"`
	LastEvent string    `json:"last_event"` // its type in lower case; empty: none
	LastAt    time.Time `json:"last_at,omitzero"`
	// LastSeen is where the recipient was seen last: "topic/partition@offset" of
	// its record, or the kind of topic where the last event left it.
	LastSeen string `json:"last_seen"`
	Ends     int    `json:"ends"` // how many different events ended it
}

type key struct {
	id     string
	number uint32
	what   string
}

func (f Finding) key() key { return key{f.MessageID, f.Recipient, f.What} }

// Gap is a partition whose group's next record isn't in the log.
type Gap struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"` // -1: the topic is gone
	Group     string `json:"group"`
	Commit    int64  `json:"commit"` // the next record the group would read
	Start     int64  `json:"start"`  // of the log
	End       int64  `json:"end"`
}

// Count counts recipients.
type Count struct {
	Accepted  int64 `json:"accepted"`
	Expanded  int64 `json:"expanded"`
	Generated int64 `json:"generated"`
	Earlier   int64 `json:"earlier"` // opened before the oldest event that there is
	Delivered int64 `json:"delivered"`
	Bounced   int64 `json:"bounced"`
	Expired   int64 `json:"expired"`
	Discarded int64 `json:"discarded"`
	Waiting   int64 `json:"waiting"`
	Missing   int64 `json:"missing"`
}

// Hour is the account of a tenant and an hour of birth.
type Hour struct {
	Tenant string    `json:"tenant"`
	Hour   time.Time `json:"hour"`
	Count
}

// Report is the outcome of an audit.
type Report struct {
	At       time.Time        `json:"at"`
	TookMs   int64            `json:"took_ms"`
	Tenant   string           `json:"tenant,omitempty"`
	Since    time.Time        `json:"since,omitzero"`
	Balanced bool             `json:"balanced"`
	Total    Count            `json:"total"`
	Waiting  map[string]int64 `json:"waiting"` // by place; all places, always
	Hours    []Hour           `json:"hours"`   // by hour, then tenant
	Findings []Finding        `json:"findings"`
	Gaps     []Gap            `json:"gaps"`
	// Unreadable are unfinished records that can't be read as mail: they wait,
	// and have no recipients to count.
	Unreadable int `json:"unreadable"`
}

// judgement is what one look found.
type judgement struct {
	hours      map[account]*Count // what waits included, but for suspects
	waiting    map[string]int64   // by place
	findings   []Finding
	unreadable int
}

// account is whose recipients are counted together.
type account struct {
	tenant string
	hour   int64 // since 1970
}

func (j *judgement) at(tenant string, hour int64) *Count {
	a := account{tenant, hour}
	if j.hours[a] == nil {
		j.hours[a] = &Count{}
	}
	return j.hours[a]
}

// wait counts open recipients at a place.
func (j *judgement) wait(tenant string, hour int64, place string, n int64) {
	j.at(tenant, hour).Waiting += n
	j.waiting[place] += n
}

// newReport is the outcome of the last look. What the look before, if there
// was one, didn't find is no finding: it moved.
func newReport(j *judgement, before []Finding, gaps []Gap) *Report {
	suspects := make(map[key]bool, len(before))
	for _, f := range before {
		suspects[f.key()] = true
	}
	r := &Report{Waiting: j.waiting, Unreadable: j.unreadable, Gaps: list(gaps), Findings: []Finding{}, Hours: []Hour{}}
	for _, f := range j.findings {
		hour := bornIn(f.MessageID)
		switch {
		// Ends are never undone: what ended twice needs no second look.
		case f.What != Repeated && !suspects[f.key()]:
			if f.What == Missing {
				j.wait(f.Tenant, hour, Moving, 1)
			}
			continue
		case f.What == Missing:
			j.at(f.Tenant, hour).Missing++
		}
		r.Findings = append(r.Findings, f)
	}
	r.Balanced = len(r.Findings) == 0 && len(r.Gaps) == 0
	for a, c := range j.hours {
		r.Balanced = r.Balanced && c.balanced()
		r.Hours = append(r.Hours, Hour{a.tenant, time.Unix(a.hour*3600, 0).UTC(), *c})
		r.Total.sum(*c)
	}
	slices.SortFunc(r.Hours, func(a, b Hour) int {
		return cmp.Or(a.Hour.Compare(b.Hour), cmp.Compare(a.Tenant, b.Tenant))
	})
	slices.SortFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.MessageID, b.MessageID), cmp.Compare(a.Recipient, b.Recipient), cmp.Compare(a.What, b.What))
	})
	return r
}

// bornIn is the hour of birth that a message id tells.
func bornIn(id string) int64 {
	u, err := ulid.ParseStrict(id)
	if err != nil {
		return 0
	}
	return hourOf(u)
}

func hourOf(id ulid.ULID) int64 { return int64(id.Time()) / time.Hour.Milliseconds() }

// opened is how many recipients there were to account for.
func (c Count) opened() int64 { return c.Accepted + c.Expanded + c.Generated + c.Earlier }

// balanced reports whether each of them is somewhere.
func (c Count) balanced() bool {
	return c.Missing == 0 && c.opened() == c.Delivered+c.Bounced+c.Expired+c.Discarded+c.Waiting
}

func (c *Count) sum(d Count) {
	c.Accepted += d.Accepted
	c.Expanded += d.Expanded
	c.Generated += d.Generated
	c.Earlier += d.Earlier
	c.Delivered += d.Delivered
	c.Bounced += d.Bounced
	c.Expired += d.Expired
	c.Discarded += d.Discarded
	c.Waiting += d.Waiting
	c.Missing += d.Missing
}

func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// Of counts the findings of a kind.
func (r *Report) Of(what string) int {
	n := 0
	for _, f := range r.Findings {
		if f.What == what {
			n++
		}
	}
	return n
}
