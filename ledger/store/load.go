package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"qstream/ledger/fold"
	pb "qstream/schemas/qstream/v1"
)

// Progress is how far the view is.
func (s *Store) Progress(ctx context.Context) (Progress, error) {
	p := Progress{Next: map[int32]int64{}}
	if err := s.write.QueryRowContext(ctx, `SELECT seq FROM meta`).Scan(&p.Seq); err != nil {
		return p, failed("read the ledger's positions", err)
	}
	err := each(ctx, s.write, `SELECT partition, offset FROM positions`, nil, func(scan scanner) error {
		var partition int32
		var next int64
		err := scan(&partition, &next)
		p.Next[partition] = next
		return err
	})
	return p, failed("read the ledger's positions", err)
}

// Load reads the messages of a batch that are known, with the parts that the
// batch wants.
func (s *Store) Load(ctx context.Context, b *fold.Batch) (map[fold.ID]*fold.Message, error) {
	known := map[fold.ID]*fold.Message{}
	if err := s.messages(ctx, b.IDs(), known); err != nil {
		return nil, failed("read messages of the ledger", err)
	}
	if len(known) == 0 {
		return known, nil
	}
	wants := b.Wants(known)
	if err := s.recipients(ctx, known, wants); err != nil {
		return nil, failed("read recipients of the ledger", err)
	}
	if err := s.legs(ctx, known, wants); err != nil {
		return nil, failed("read legs of the ledger", err)
	}
	for _, m := range known {
		m.Stored()
	}
	return known, nil
}

type scanner func(...any) error

// each calls f for every row of a query.
func each(ctx context.Context, db *sql.DB, query string, args []any, f func(scanner) error) error {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	for rows.Next() {
		if err := f(rows.Scan); err != nil {
			return errors.Join(err, rows.Close())
		}
	}
	return errors.Join(rows.Err(), rows.Close())
}

// keyed runs a query for keys of some columns, many at a time. The query has
// the place %s for them.
func keyed(ctx context.Context, db *sql.DB, query string, columns int, keys []any, f func(scanner) error) error {
	for len(keys) > 0 {
		n := min(together*columns, len(keys))
		if err := each(ctx, db, fmt.Sprintf(query, values(n/columns, columns)), keys[:n], f); err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}

const messageColumns = `id, born_ms, opened, reverse_path, header_id, size, parent, told`

func (s *Store) messages(ctx context.Context, ids []fold.ID, into map[fold.ID]*fold.Message) error {
	keys := make([]any, len(ids))
	for i := range ids {
		keys[i] = ids[i][:]
	}
	return keyed(ctx, s.write, `SELECT `+messageColumns+` FROM messages WHERE id IN (VALUES %s)`, 1, keys, func(scan scanner) error {
		m, err := scanMessage(scan)
		if err == nil {
			into[m.ID] = m
		}
		return err
	})
}

func scanMessage(scan scanner) (*fold.Message, error) {
	m := &fold.Message{}
	var id, parent, told []byte
	if err := scan(&id, &m.BornMs, &m.Opened, &m.ReversePath, &m.HeaderID, &m.Size, &parent, &told); err != nil {
		return nil, err
	}
	copy(m.ID[:], id)
	copy(m.Parent[:], parent)
	var err error
	if m.Told, err = fold.Unpack(told); err != nil {
		return nil, fmt.Errorf("message %s: %w: %w", m.ID, ErrDamaged, err)
	}
	return m, nil
}

const recipientColumns = `id, number, address, tenant, opened, leg, state, ended_ms, ends, last, last_ms, offset, seq`

func (s *Store) recipients(ctx context.Context, into map[fold.ID]*fold.Message, wants map[fold.ID]*fold.Wanted) error {
	var keys []any
	for id, w := range wants {
		for number := range w.Recipients {
			keys = append(keys, into[id].ID[:], int64(number))
		}
	}
	const query = `SELECT ` + recipientColumns + ` FROM recipients WHERE (id, number) IN (VALUES %s)`
	return keyed(ctx, s.write, query, 2, keys, func(scan scanner) error {
		id, r, err := scanRecipient(scan)
		if err != nil {
			return err
		}
		into[id].Recipients = append(into[id].Recipients, r)
		wants[id].Legs[r.Leg] = true
		return nil
	})
}

func scanRecipient(scan scanner) (fold.ID, fold.Recipient, error) {
	var (
		id   fold.ID
		raw  []byte
		last int32
		r    fold.Recipient
	)
	err := scan(&raw, &r.Number, &r.Address, &r.Tenant, &r.Opened, &r.Leg, &r.State, &r.EndedMs, &r.Ends, &last, &r.LastMs, &r.Offset, &r.Seq)
	copy(id[:], raw)
	r.Last = pb.EventType(last)
	return id, r, err
}

const legColumns = `id, number, tenant, queue, destination, step, attempt, place, since_ms, due_ms, reason, code, reply, host, recipients, offset, seq, user, size, report`

func (s *Store) legs(ctx context.Context, into map[fold.ID]*fold.Message, wants map[fold.ID]*fold.Wanted) error {
	var keys []any
	for id, w := range wants {
		for number := range w.Legs {
			keys = append(keys, into[id].ID[:], number)
		}
	}
	const query = `SELECT ` + legColumns + ` FROM legs WHERE (id, number) IN (VALUES %s)`
	return keyed(ctx, s.write, query, 2, keys, func(scan scanner) error {
		id, l, err := scanLeg(scan)
		if err != nil {
			return err
		}
		into[id].Legs = append(into[id].Legs, l)
		return nil
	})
}

func scanLeg(scan scanner) (fold.ID, fold.Leg, error) {
	var (
		id     fold.ID
		raw    []byte
		reason int32
		l      fold.Leg
	)
	err := scan(&raw, &l.Number, &l.Tenant, &l.Queue, &l.Destination, &l.Step, &l.Attempt, &l.Place, &l.SinceMs, &l.DueMs,
		&reason, &l.Code, &l.Reply, &l.Host, &l.Recipients, &l.Offset, &l.Seq, &l.User, &l.Size, &l.Report)
	copy(id[:], raw)
	l.Reason = pb.Reason(reason)
	return id, l, err
}
