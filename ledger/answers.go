package ledger

import (
	"encoding/json"
	"time"
)

// Fresh says how far an answer's view is.
type Fresh struct {
	// At: everything appended before is in it. The zero time: not even that is
	// known, the view is being built.
	At time.Time `json:"at"`
	// Behind is how many records of the events topic are not in it yet: 0 when
	// the view had caught up with the log when it was asked.
	Behind int64 `json:"behind"`
}

// Groups is the answer of GET /v1/queue/groups.
type Groups struct {
	Fresh  Fresh    `json:"fresh"`
	By     []string `json:"by"`
	Groups []Group  `json:"groups"`
	More   bool     `json:"more,omitempty"` // there are more than the limit
}

// Group are unfinished legs that have something in common.
type Group struct {
	Keys       map[string]string `json:"keys"`
	Legs       int               `json:"legs"`
	Recipients int               `json:"recipients"`
	Oldest     *time.Time        `json:"oldest,omitempty"`
	// Legs a minute over the last five minutes; absent where groups are made by
	// something that changes while a leg waits.
	Rates   *Rates         `json:"rates,omitempty"`
	Reasons map[string]int `json:"reasons,omitempty"`
	Reply   *Reply         `json:"reply,omitempty"` // the most common last one
}

// Rates are legs a minute.
type Rates struct {
	In       float64 `json:"in"`
	Out      float64 `json:"out"`
	Deferred float64 `json:"deferred"`
}

// Reply is a last reply, and how many legs have it.
type Reply struct {
	Text string `json:"text"` // hostile
	Legs int    `json:"legs"`
}

// Queue is the answer of GET /v1/queue/show/NAME.
type Queue struct {
	Fresh        Fresh        `json:"fresh"`
	Queue        string       `json:"queue"`
	Known        bool         `json:"known"` // the directory has it
	Total        Group        `json:"total"`
	Places       []Group      `json:"places"`
	Tenants      []Group      `json:"tenants"`
	Destinations []Group      `json:"destinations"` // the largest
	Replies      []Reply      `json:"replies"`      // the most common
	Suspensions  []Suspension `json:"suspensions"`
}

// Suspension is a standing order that covers the queue, or some of it.
type Suspension struct {
	Tenant      string    `json:"tenant,omitempty"`
	Queue       string    `json:"queue,omitempty"`
	Destination string    `json:"destination,omitempty"`
	Since       time.Time `json:"since"`
	Actor       string    `json:"actor"`
	Reason      string    `json:"reason,omitempty"`
}

// Legs is the answer of GET /v1/queue/legs.
type Legs struct {
	Fresh Fresh `json:"fresh"`
	Legs  []Leg `json:"legs"`
	More  bool  `json:"more,omitempty"`
}

// Leg is an unfinished leg.
type Leg struct {
	ID          string     `json:"id"`
	Leg         int64      `json:"leg"` // -1: the router hasn't seen it
	Born        time.Time  `json:"born"`
	Tenant      string     `json:"tenant,omitempty"`
	Queue       string     `json:"queue,omitempty"`
	Destination string     `json:"destination,omitempty"`
	Place       string     `json:"place"`
	Since       time.Time  `json:"since"`
	Due         *time.Time `json:"due,omitempty"`
	Reason      string     `json:"reason,omitempty"`
	Attempts    uint32     `json:"attempts"`
	Reply       string     `json:"reply,omitempty"` // hostile
	Host        string     `json:"host,omitempty"`
	ReversePath string     `json:"reverse_path"`
	HeaderID    string     `json:"header_message_id,omitempty"`
	Size        int64      `json:"size"`
	Recipients  int        `json:"recipients"`
	Addresses   []string   `json:"addresses"` // the first few
}

// Trace is the answer of GET /v1/trace: the events of the messages asked for
// and of the reports about them, each message's own in their order.
type Trace struct {
	Fresh  Fresh             `json:"fresh"`
	Events []json.RawMessage `json:"events"`
	More   bool              `json:"more,omitempty"` // older messages were left out
	// Told is how many events the view knows of; those that are missing from
	// Events were deleted from the log.
	Told int `json:"told"`
}
