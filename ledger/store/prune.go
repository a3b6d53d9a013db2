package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"qstream/ledger/fold"
)

// pruned is how many messages are forgotten at a time: writing waits for it.
const pruned = 2000

// Prune forgets messages that were born before a time and have ended, some at
// a time, and says how many. What is open stays.
func (s *Store) Prune(ctx context.Context, before time.Time) (int, error) {
	var first fold.ID
	_ = first.SetTime(uint64(max(before.UnixMilli(), 0)))
	hour := fold.Hour(first)
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return 0, failed("prune the ledger", err)
	}
	n, err := prune(ctx, tx, first, hour)
	if err != nil {
		return 0, errors.Join(failed("prune the ledger", err), tx.Rollback())
	}
	return n, failed("prune the ledger", tx.Commit())
}

func prune(ctx context.Context, tx *sql.Tx, first fold.ID, hour int64) (int, error) {
	const ended = `SELECT id FROM messages m WHERE id < ? AND NOT EXISTS (SELECT 1 FROM legs l WHERE l.id = m.id) ORDER BY id LIMIT ?`
	if _, err := tx.ExecContext(ctx, `DELETE FROM recipients WHERE id IN (`+ended+`)`, first[:], pruned); err != nil {
		return 0, fmt.Errorf("recipients: %w", err)
	}
	res, err := tx.ExecContext(ctx, `DELETE FROM messages WHERE id IN (`+ended+`)`, first[:], pruned)
	if err != nil {
		return 0, fmt.Errorf("messages: %w", err)
	}
	n, err := res.RowsAffected()
	if err != nil || n > 0 {
		return int(n), err
	}
	const old = `SELECT run FROM runs WHERE newest_ms < ?`
	for _, table := range []string{"names", "runs"} {
		if _, err := tx.ExecContext(ctx, `DELETE FROM `+table+` WHERE run IN (`+old+`)`, int64(first.Time())); err != nil {
			return 0, fmt.Errorf("%s: %w", table, err)
		}
	}
	_, err = tx.ExecContext(ctx, `DELETE FROM accounts WHERE hour < ? AND
		accepted + generated + unopened = delivered + bounced + expired + discarded`, hour)
	if err != nil {
		return 0, fmt.Errorf("accounts: %w", err)
	}
	return 0, nil
}

// PruneRates forgets the rates of minutes before one.
func (s *Store) PruneRates(ctx context.Context, minute int64) error {
	_, err := s.write.ExecContext(ctx, `DELETE FROM rates WHERE minute < ?`, minute)
	return failed("prune the ledger", err)
}
