package audit

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"qstream/ledger/fold"
	pb "qstream/schemas/qstream/v1"
)

// recipient is a row of the view.
type recipient struct {
	id                     ulid.ULID
	number                 uint32
	address, tenant, queue string
	last, lastMs, seq      int64
	ends                   int
	leg                    int64 // -1: in front of the router
	place                  sql.NullInt64
	offset                 sql.NullInt64
}

const recipientColumns = `r.id, r.number, r.address, r.tenant, ifnull(l.queue, ''), r.last, r.last_ms, r.seq, r.ends, r.leg, l.place, l.offset`

func (c *comparison) recipients(ctx context.Context, each func(recipient), q string, args ...any) error {
	return c.query(ctx, func(scan func(...any) error) error {
		var r recipient
		var id []byte
		err := scan(&id, &r.number, &r.address, &r.tenant, &r.queue, &r.last, &r.lastMs, &r.seq, &r.ends, &r.leg, &r.place, &r.offset)
		if err != nil {
			return err
		}
		copy(r.id[:], id)
		if c.within(r.tenant, hourOf(r.id)) {
			each(r)
		}
		return nil
	}, q, args...)
}

// announced reports whether the events tell all of a message: it was born
// when they are complete, by any clock that qstream works with.
func (r recipient) announced(oldest time.Time) bool {
	return ulid.Time(r.id.Time()).After(oldest.Add(time.Minute))
}

func (r recipient) finding(what string) Finding {
	f := Finding{
		What: what, MessageID: r.id.String(), Recipient: r.number, Address: r.address, Tenant: r.tenant, Queue: r.queue, Ends: r.ends,
	}
	if r.last != 0 {
		f.LastEvent = strings.ToLower(strings.TrimPrefix(pb.EventType(r.last).String(), "EVENT_TYPE_"))
	}
	if r.lastMs > 0 {
		f.LastAt = time.UnixMilli(r.lastMs).UTC()
	}
	f.LastSeen = r.seen()
	return f
}

// seen is where a recipient was seen last.
func (r recipient) seen() string {
	if !r.place.Valid {
		return ""
	}
	at := viewPlaces[fold.Place(r.place.Int64)]
	// In front of the router it is a record that was noted, or that a DSN's
	// event told of.
	if r.leg == fold.Unrouted && r.offset.Int64 >= 0 && r.last == 0 {
		return fmt.Sprintf("%s@%d", at, r.offset.Int64)
	}
	return at
}

// viewPlaces are the names of the view's places.
var viewPlaces = map[fold.Place]string{
	fold.Received: AtReceived, fold.Reinject: AtReinject, fold.Queue: AtQueue,
	fold.Delay: AtDelay, fold.Parked: AtParked, fold.Deadletter: AtDeadletter,
	fold.Scan: AtScan, fold.Quarantine: AtQuarantine,
}
