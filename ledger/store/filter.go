package store

import (
	"strings"
	"time"

	"qstream/ledger/fold"
	pb "qstream/schemas/qstream/v1"
)

// Filter says which legs are meant; empty fields mean any.
type Filter struct {
	Tenant      string
	Queue       string
	Destination string // case doesn't count
	Host        string
	Place       *fold.Place
	Reason      pb.Reason // REASON_UNSPECIFIED: any
	Reply       string    // part of the last reply; case doesn't count for ASCII
	BornBefore  time.Time
}

// where is the filter as a condition on legs.
func (f Filter) where() (string, []any) {
	var conditions []string
	var args []any
	add := func(condition string, arg any) {
		conditions, args = append(conditions, condition), append(args, arg)
	}
	if f.Tenant != "" {
		add("tenant = ?", f.Tenant)
	}
	if f.Queue != "" {
		add("queue = ?", f.Queue)
	}
	if f.Destination != "" {
		add("destination = ? COLLATE NOCASE", f.Destination)
	}
	if f.Host != "" {
		add("host = ? COLLATE NOCASE", f.Host)
	}
	if f.Place != nil {
		add("place = ?", int64(*f.Place))
	}
	if f.Reason != pb.Reason_REASON_UNSPECIFIED {
		add("reason = ?", int64(f.Reason))
	}
	if f.Reply != "" {
		add("instr(lower(code || ' ' || reply), lower(?)) > 0", f.Reply)
	}
	if !f.BornBefore.IsZero() {
		add("born_ms < ?", f.BornBefore.UnixMilli())
	}
	if len(conditions) == 0 {
		return "", nil
	}
	return " WHERE " + strings.Join(conditions, " AND "), args
}

// flows is the filter as a condition on rates; ok is false if rates can't tell.
func (f Filter) flows() (Filter, bool) {
	only := Filter{Tenant: f.Tenant, Queue: f.Queue, Destination: f.Destination}
	return only, only == f
}
