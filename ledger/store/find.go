package store

import (
	"context"
	"time"

	"qstream/ledger/fold"
)

// Find are the messages that a text names and that were born since a time, the
// newest first. More tells whether the limit left out some.
func (s *Store) Find(ctx context.Context, k fold.Kind, text string, since, now time.Time, limit int) (ids []fold.ID, more bool, err error) {
	text = normal(k, text)
	if text == "" {
		return nil, false, nil
	}
	const hourMs = int64(time.Hour / time.Millisecond)
	// The clock of an edge may be ahead of this one.
	for hour := now.UnixMilli()/hourMs + 1; hour >= since.UnixMilli()/hourMs; hour-- {
		var candidates []fold.ID
		err := each(ctx, s.read, `SELECT id FROM names WHERE hour = ? AND hash = ? ORDER BY id DESC LIMIT ?`,
			[]any{hour, hash(k, text), limit + 1}, func(scan scanner) error {
				var raw []byte
				err := scan(&raw)
				candidates = append(candidates, idOf(raw))
				return err
			})
		if err != nil {
			return nil, false, failed("find messages", err)
		}
		for _, id := range candidates {
			if int64(id.Time()) < since.UnixMilli() {
				continue
			}
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
	}
	return ids, false, nil
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
	var ids []fold.ID
	const query = `SELECT m.id FROM names n JOIN messages m ON m.id = n.id WHERE n.hour = ? AND n.hash = ? AND m.parent = ?`
	err := each(ctx, s.read, query, []any{fold.Hour(parent), hash(byParent, string(parent[:])), parent[:]}, func(scan scanner) error {
		var raw []byte
		err := scan(&raw)
		ids = append(ids, idOf(raw))
		return err
	})
	return ids, failed("find reports", err)
}

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
