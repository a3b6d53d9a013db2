package store

import (
	"context"
	"fmt"
	"time"

	"qstream/ledger/fold"
)

// Leg is an unfinished leg with what is known of its message.
type Leg struct {
	fold.Leg
	ID          fold.ID
	Born        time.Time
	ReversePath string
	HeaderID    string
	Size        int64
	Addresses   []string // of its open recipients, the first few
}

// Listing is a question for legs.
type Listing struct {
	Filter Filter
	Sort   string // of Sorts; default "age"
	Limit  int    // required
}

// sorts are the orders in which legs can be listed.
var sorts = map[string]string{
	"age":   "born_ms, id, number",
	"since": "since_ms, id, number",
	"due":   "due_ms = 0, due_ms, id, number",
	"reply": "code, reply, born_ms, id, number",
}

// Sorts are the orders of a Listing, by name: the oldest first, the longest in
// its place, the next due, by the last reply.
var Sorts = []string{"age", "due", "reply", "since"}

// addresses is how many recipients of a leg are named.
const addresses = 3

// Legs lists unfinished legs. More tells whether the limit left out some.
func (s *Store) Legs(ctx context.Context, q Listing) (found []Leg, more bool, err error) {
	if q.Sort == "" {
		q.Sort = "age"
	}
	order, ok := sorts[q.Sort]
	if !ok {
		return nil, false, fmt.Errorf("legs can't be sorted by %q", q.Sort)
	}
	where, args := q.Filter.where()
	query := `SELECT ` + legColumns + `, born_ms FROM legs` + where + ` ORDER BY ` + order + ` LIMIT ?`
	err = each(ctx, s.read, query, append(args, q.Limit+1), func(scan scanner) error {
		var born int64
		id, l, err := scanLeg(func(to ...any) error { return scan(append(to, &born)...) })
		found = append(found, Leg{Leg: l, ID: id, Born: time.UnixMilli(born)})
		return err
	})
	if err != nil {
		return nil, false, failed("list legs", err)
	}
	if len(found) > q.Limit {
		found, more = found[:q.Limit], true
	}
	for i := range found {
		if err := s.describe(ctx, &found[i]); err != nil {
			return nil, false, failed("list legs", err)
		}
	}
	return found, more, nil
}

func (s *Store) describe(ctx context.Context, l *Leg) error {
	const message = `SELECT reverse_path, header_id, size FROM messages WHERE id = ?`
	err := each(ctx, s.read, message, []any{l.ID[:]}, func(scan scanner) error {
		return scan(&l.ReversePath, &l.HeaderID, &l.Size)
	})
	if err != nil {
		return err
	}
	const recipients = `SELECT address FROM recipients WHERE id = ? AND leg = ? AND state = 0 ORDER BY number LIMIT ?`
	return each(ctx, s.read, recipients, []any{l.ID[:], l.Number, addresses}, func(scan scanner) error {
		l.Addresses = append(l.Addresses, "")
		return scan(&l.Addresses[len(l.Addresses)-1])
	})
}

// Replies are the most common last replies of the legs that are meant.
func (s *Store) Replies(ctx context.Context, f Filter, limit int) (map[string]int, error) {
	where, args := f.where()
	found := map[string]int{}
	query := `SELECT code, reply, count(*) AS n FROM legs` + where + ` GROUP BY code, reply HAVING code > 0 OR reply <> '' ORDER BY n DESC, code, reply LIMIT ?`
	err := each(ctx, s.read, query, append(args, limit), func(scan scanner) error {
		var code int64
		var reply string
		var n int
		err := scan(&code, &reply, &n)
		found[replyText(code, reply)] += n
		return err
	})
	return found, failed("count replies", err)
}

// LastReply is the leg's last reply with its code; "": it has none.
func (l Leg) LastReply() string { return replyText(int64(l.Code), l.Reply) }
