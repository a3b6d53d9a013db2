package audit

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"qstream/ledger/fold"
	pb "qstream/schemas/qstream/v1"
)

// look is one reading of the unfinished records, in a table of its own beside
// the ledger's: a million of them need no memory here.
type look struct {
	db   *sql.DB
	conn *sql.Conn
	args []any
}

// waitingTable has one row for each recipient that waits. A recipient that is
// found twice moved meanwhile, or one record repeats the other.
const waitingTable = `CREATE TABLE scratch.waiting (
	id BLOB NOT NULL, number INTEGER NOT NULL, hour INTEGER NOT NULL, place TEXT NOT NULL, fresh INTEGER NOT NULL,
	address TEXT NOT NULL, tenant TEXT NOT NULL, queue TEXT NOT NULL,
	topic TEXT NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL,
	PRIMARY KEY (id, number)
) WITHOUT ROWID`

const (
	waitingColumns = 11
	together       = 32 // rows in one statement
)

func openLook(ctx context.Context, b Book) (*look, error) {
	db, err := b.Scratch(ctx)
	if err != nil {
		return nil, err
	}
	l := &look{db: db}
	if l.conn, err = db.Conn(ctx); err == nil {
		_, err = l.conn.ExecContext(ctx, waitingTable)
	}
	if err == nil {
		// Only that table is touched, so that nobody waits for it.
		_, err = l.conn.ExecContext(ctx, "BEGIN")
	}
	if err != nil {
		l.close()
		return nil, fmt.Errorf("make the table of what waits: %w", err)
	}
	return l, nil
}

func (l *look) close() {
	if l.conn != nil {
		_ = l.conn.Close()
	}
	_ = l.db.Close()
}

// add notes a recipient that waits.
func (l *look) add(ctx context.Context, u Unfinished) error {
	l.args = append(l.args, u.ID[:], u.Number, hourOf(u.ID), u.Place, u.Fresh, u.Address, u.Tenant, u.Queue,
		u.Topic, u.Partition, u.Offset)
	if len(l.args) < together*waitingColumns {
		return nil
	}
	return l.flush(ctx)
}

func (l *look) flush(ctx context.Context) error {
	if len(l.args) == 0 {
		return nil
	}
	row := "(" + strings.TrimSuffix(strings.Repeat("?,", waitingColumns), ",") + ")"
	n := len(l.args) / waitingColumns
	_, err := l.conn.ExecContext(ctx, "INSERT OR REPLACE INTO scratch.waiting VALUES "+
		strings.TrimSuffix(strings.Repeat(row+",", n), ","), l.args...)
	l.args = l.args[:0]
	if err != nil {
		return fmt.Errorf("note what waits: %w", err)
	}
	return nil
}

// notesAtOnce is how many notes are given to the view together.
const notesAtOnce = 1000

// notes calls f for the messages in front of the router that only their
// records tell of.
func (l *look) notes(ctx context.Context, f func(context.Context, []fold.Note) error) error {
	rows, err := l.conn.QueryContext(ctx, `SELECT w.id, w.number, w.address, w.tenant, w.place, w.offset
		FROM scratch.waiting w LEFT JOIN recipients r ON r.id = w.id AND r.number = w.number
		WHERE r.id IS NULL AND w.fresh ORDER BY w.id, w.number`)
	if err != nil {
		return fmt.Errorf("look for what waits in front of the router: %w", err)
	}
	defer rows.Close()
	var notes []fold.Note
	for rows.Next() {
		var id []byte
		var place string
		n, o := fold.Note{Opened: fold.Accepted, Place: fold.Received}, &pb.Outcome{}
		if err := rows.Scan(&id, &o.Number, &o.Address, &n.Tenant, &place, &n.At.Offset); err != nil {
			return err
		}
		copy(n.ID[:], id)
		switch place {
		case AtReinject:
			n.Opened, n.Place = fold.Generated, fold.Reinject
		case AtDeadletter:
			n.Place = fold.Deadletter
		}
		if last := len(notes) - 1; last >= 0 && notes[last].ID == n.ID {
			notes[last].Recipients = append(notes[last].Recipients, o)
			continue
		}
		if len(notes) == notesAtOnce {
			if err := f(ctx, notes); err != nil {
				return err
			}
			notes = nil
		}
		n.Recipients = []*pb.Outcome{o}
		notes = append(notes, n)
	}
	if err := rows.Err(); err != nil || len(notes) == 0 {
		return err
	}
	return f(ctx, notes)
}
