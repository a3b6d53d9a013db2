package store

import (
	"bytes"
	"context"
	"slices"
	"time"

	"qstream/ledger/fold"
)

// Find are the messages that a text names and that were born since a time, the
// newest first. More tells whether the limit left out some.
func (s *Store) Find(ctx context.Context, k fold.Kind, text string, since time.Time, limit int) (ids []fold.ID, more bool, err error) {
	if text = normal(k, text); text == "" {
		return nil, false, nil
	}
	candidates, err := s.candidates(ctx, hash(k, text), since.UnixMilli())
	if err != nil {
		return nil, false, err
	}
	for _, id := range candidates {
		if ok, err := s.named(ctx, id, k, text); err != nil {
			return nil, false, failed("find messages", err)
		} else if !ok {
			continue
		}
		if len(ids) == limit {
			return ids, true, nil
		}
		ids = append(ids, id)
	}
	return ids, false, nil
}

// most bounds how many messages of a name are looked at, the newest ones.
const most = 20_000

// candidates are the messages of a hash, the newest first.
func (s *Store) candidates(ctx context.Context, hash, sinceMs int64) ([]fold.ID, error) {
	const query = `SELECT n.id FROM runs r CROSS JOIN names n ON n.run = r.run AND n.hash = ? WHERE r.newest_ms >= ? ORDER BY r.run DESC LIMIT ?`
	var found []fold.ID
	err := each(ctx, s.read, query, []any{hash, sinceMs, most}, func(scan scanner) error {
		var raw []byte
		err := scan(&raw)
		if id := idOf(raw); int64(id.Time()) >= sinceMs {
			found = append(found, id)
		}
		return err
	})
	if err != nil {
		return nil, failed("find messages", err)
	}
	slices.SortFunc(found, func(a, b fold.ID) int { return -bytes.Compare(a[:], b[:]) })
	return slices.Compact(found), nil
}

func idOf(raw []byte) (id fold.ID) {
	copy(id[:], raw)
	return id
}

// named reports whether a message really has the name that a hash found.
func (s *Store) named(ctx context.Context, id fold.ID, k fold.Kind, text string) (bool, error) {
	query := map[fold.Kind]string{
		fold.ByHeaderID:    `SELECT header_id FROM messages WHERE id = ?`,
		fold.ByReversePath: `SELECT reverse_path FROM messages WHERE id = ?`,
		fold.ByRecipient:   `SELECT address FROM recipients WHERE id = ?`,
	}[k]
	found := false
	err := each(ctx, s.read, query, []any{id[:]}, func(scan scanner) error {
		var have string
		err := scan(&have)
		found = found || normal(k, have) == text
		return err
	})
	return found, err
}

// Children are the messages about a message: its DSNs.
func (s *Store) Children(ctx context.Context, parent fold.ID) ([]fold.ID, error) {
	// Their ids tell the time of what they are about, or later.
	candidates, err := s.candidates(ctx, hash(byParent, string(parent[:])), int64(parent.Time())-clocks.Milliseconds())
	if err != nil {
		return nil, err
	}
	var ids []fold.ID
	for _, id := range candidates {
		err := each(ctx, s.read, `SELECT 1 FROM messages WHERE id = ? AND parent = ?`, []any{id[:], parent[:]}, func(scan scanner) error {
			var one int
			ids = append(ids, id)
			return scan(&one)
		})
		if err != nil {
			return nil, failed("find reports", err)
		}
	}
	return ids, nil
}

// clocks is by how much those of edge and broker may differ.
const clocks = time.Hour

// Told are the places of a message's events, by partition; ok is false if the
// message isn't known.
func (s *Store) Told(ctx context.Context, id fold.ID) (places map[int32][]int64, ok bool, err error) {
	err = each(ctx, s.read, `SELECT told FROM messages WHERE id = ?`, []any{id[:]}, func(scan scanner) error {
		var packed []byte
		if err := scan(&packed); err != nil {
			return err
		}
		told, err := fold.Unpack(packed)
		if err != nil {
			return err
		}
		places, ok = map[int32][]int64{}, true
		return told.Each(func(partition int32, offset int64) {
			places[partition] = append(places[partition], offset)
		})
	})
	return places, ok, failed("find a message's events", err)
}
