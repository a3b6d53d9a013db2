package store

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"

	"qstream/ledger/fold"
)

// Progress is how far a view is.
type Progress struct {
	Next map[int32]int64 // the next event of each partition
	Seq  int64           // how many events were folded
}

// writer has the statements of a batch.
type writer struct {
	messages, recipients, legs, names, gone *rows
	accounts, rates, runs, positions        *rows
}

func newWriter(ctx context.Context, db *sql.DB) (*writer, error) {
	w := &writer{}
	for _, p := range []struct {
		rows    **rows
		insert  string
		columns int
		tail    string
	}{
		{&w.messages, "INSERT OR REPLACE INTO messages VALUES ", 8, ""},
		{&w.recipients, "INSERT OR REPLACE INTO recipients VALUES ", 13, ""},
		{&w.legs, "INSERT OR REPLACE INTO legs VALUES ", 21, ""},
		{&w.names, "INSERT OR IGNORE INTO names VALUES ", 3, ""},
		{&w.gone, "DELETE FROM legs WHERE (id, number) IN (VALUES ", 2, ")"},
		{&w.positions, "INSERT OR REPLACE INTO positions VALUES ", 2, ""},
		{&w.runs, "INSERT INTO runs VALUES ", 2, " ON CONFLICT DO UPDATE SET newest_ms = max(newest_ms, excluded.newest_ms)"},
		{&w.accounts, "INSERT INTO accounts VALUES ", 10, ` ON CONFLICT DO UPDATE SET
			accepted = accepted + excluded.accepted, generated = generated + excluded.generated,
			unopened = unopened + excluded.unopened, delivered = delivered + excluded.delivered,
			bounced = bounced + excluded.bounced, expired = expired + excluded.expired,
			discarded = discarded + excluded.discarded, again = again + excluded.again`},
		{&w.rates, "INSERT INTO rates VALUES ", 7, ` ON CONFLICT DO UPDATE SET
			came = came + excluded.came, left = left + excluded.left, deferred = deferred + excluded.deferred`},
	} {
		var err error
		if *p.rows, err = prepareRows(ctx, db, p.insert, p.columns, p.tail); err != nil {
			return nil, failed("prepare the ledger's statements", err)
		}
	}
	return w, nil
}

func (w *writer) all() []*rows {
	return []*rows{w.messages, w.recipients, w.legs, w.names, w.gone, w.positions, w.accounts, w.rates, w.runs}
}

func (w *writer) close() {
	for _, r := range w.all() {
		r.close()
	}
}

// Save writes what a batch changed and how far it brought the view, at once or
// not at all.
func (s *Store) Save(ctx context.Context, r fold.Result, p Progress) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return failed("write the ledger", err)
	}
	if err := s.bulk.save(ctx, tx, r, p); err != nil {
		return errors.Join(failed("write the ledger", err), tx.Rollback())
	}
	return failed("write the ledger", tx.Commit())
}

func (w *writer) save(ctx context.Context, tx *sql.Tx, r fold.Result, p Progress) error {
	for _, rows := range w.all() {
		rows.begin(ctx, tx)
	}
	// In their order: rows that are written together are then kept together.
	slices.SortFunc(r.Messages, func(a, b *fold.Message) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	var names []name
	for _, m := range r.Messages {
		if err := w.message(ctx, m); err != nil {
			return err
		}
		names = appendNames(names, m)
	}
	if err := w.run(ctx, names, p.Seq/runEvents); err != nil {
		return err
	}
	if err := w.sums(ctx, r); err != nil {
		return err
	}
	for partition, next := range p.Next {
		if err := w.positions.add(ctx, int64(partition), next); err != nil {
			return err
		}
	}
	for _, rows := range w.all() {
		if err := rows.flush(ctx); err != nil {
			return err
		}
	}
	_, err := tx.ExecContext(ctx, `UPDATE meta SET seq = ?`, p.Seq)
	return err
}

func (w *writer) message(ctx context.Context, m *fold.Message) error {
	id := m.ID[:]
	if m.Changed() {
		var parent any
		if m.Parent != (fold.ID{}) {
			parent = m.Parent[:]
		}
		told := m.Told.Packed()
		if told == nil {
			told = []byte{}
		}
		if err := w.messages.add(ctx, id, m.BornMs, int64(m.Opened), m.ReversePath, m.HeaderID, m.Size, parent, told); err != nil {
			return fmt.Errorf("message: %w", err)
		}
	}
	for i := range m.Recipients {
		r := &m.Recipients[i]
		if !r.Changed() {
			continue
		}
		if err := w.recipients.add(ctx, id, int64(r.Number), r.Address, r.Tenant, int64(r.Opened), r.Leg, int64(r.State),
			r.EndedMs, int64(r.Ends), int64(r.Last), r.LastMs, r.Offset, r.Seq); err != nil {
			return fmt.Errorf("recipient: %w", err)
		}
	}
	for i := range m.Legs {
		if err := w.leg(ctx, m, &m.Legs[i]); err != nil {
			return fmt.Errorf("leg: %w", err)
		}
	}
	return nil
}

func (w *writer) leg(ctx context.Context, m *fold.Message, l *fold.Leg) error {
	switch {
	case !l.Changed():
		return nil
	case l.Gone():
		return w.gone.add(ctx, m.ID[:], l.Number)
	}
	return w.legs.add(ctx, m.ID[:], l.Number, m.BornMs, l.Tenant, l.Queue, l.Destination, int64(l.Step), int64(l.Attempt),
		int64(l.Place), l.SinceMs, l.DueMs, int64(l.Reason), int64(l.Code), l.Reply, l.Host, int64(l.Recipients), l.Offset, l.Seq,
		l.User, l.Size, l.Report)
}

func (w *writer) sums(ctx context.Context, r fold.Result) error {
	for a, s := range r.Accounts {
		if *s == (fold.Sums{}) {
			continue
		}
		if err := w.accounts.add(ctx, a.Tenant, a.Hour, s.Accepted, s.Generated, s.Unopened,
			s.Delivered, s.Bounced, s.Expired, s.Discarded, s.Again); err != nil {
			return fmt.Errorf("account: %w", err)
		}
	}
	for f, c := range r.Rates.Flows {
		if err := w.rates.add(ctx, f.Minute, f.Tenant, f.Queue, f.Destination, c.Came, c.Left, c.Deferred); err != nil {
			return fmt.Errorf("rate: %w", err)
		}
	}
	return nil
}

// runEvents is how many events a run of names is of.
const runEvents = 20_000

// name is a row of names.
type name struct {
	hash int64
	id   *fold.ID
}

// run writes names into the run of their time.
func (w *writer) run(ctx context.Context, names []name, run int64) error {
	slices.SortFunc(names, func(a, b name) int { return cmp.Compare(a.hash, b.hash) })
	newest := int64(0)
	for _, n := range names {
		newest = max(newest, int64(n.id.Time()))
		if err := w.names.add(ctx, run, n.hash, n.id[:]); err != nil {
			return fmt.Errorf("name: %w", err)
		}
	}
	if newest == 0 {
		return nil
	}
	return w.runs.add(ctx, run, newest)
}

func appendNames(names []name, m *fold.Message) []name {
	m.NewNames(func(k fold.Kind, text string) {
		if text = normal(k, text); text != "" {
			names = append(names, name{hash(k, text), &m.ID})
		}
	})
	if m.NewParent() {
		names = append(names, name{hash(byParent, string(m.Parent[:])), &m.ID})
	}
	return names
}

// byParent finds the children of a message.
const byParent fold.Kind = 'p'

// normal is a text as it is looked for: case doesn't count in addresses,
// brackets not in a Message-ID.
func normal(k fold.Kind, text string) string {
	text = strings.TrimSpace(text)
	if k == fold.ByHeaderID {
		return strings.Trim(text, "<>")
	}
	return strings.ToLower(text)
}

func hash(k fold.Kind, text string) int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte{byte(k)})
	_, _ = h.Write([]byte(text))
	return int64(h.Sum64())
}

// Clone is a copy of its own.
func (p Progress) Clone() Progress { return Progress{Next: maps.Clone(p.Next), Seq: p.Seq} }
