package store

import (
	"context"
	"database/sql"
	"strings"
)

// together is how many rows one statement writes or finds: the cost of a
// statement is then hardly seen.
const together = 32

// rows writes rows of one statement, many at a time. Use: begin, add, add, ...,
// flush.
type rows struct {
	columns         int
	many, one       *sql.Stmt
	manyNow, oneNow *sql.Stmt // in the transaction
	args            []any
}

// prepareRows makes the statement insert + rows + tail.
func prepareRows(ctx context.Context, db *sql.DB, insert string, columns int, tail string) (*rows, error) {
	r := &rows{columns: columns, args: make([]any, 0, together*columns)}
	var err error
	if r.many, err = db.PrepareContext(ctx, insert+values(together, columns)+tail); err != nil {
		return nil, err
	}
	r.one, err = db.PrepareContext(ctx, insert+values(1, columns)+tail)
	return r, err
}

// values is "(?,?),(?,?)".
func values(n, columns int) string {
	row := "(" + strings.TrimSuffix(strings.Repeat("?,", columns), ",") + ")"
	return strings.TrimSuffix(strings.Repeat(row+",", n), ",")
}

func (r *rows) begin(ctx context.Context, tx *sql.Tx) {
	r.manyNow, r.oneNow, r.args = tx.StmtContext(ctx, r.many), tx.StmtContext(ctx, r.one), r.args[:0]
}

func (r *rows) add(ctx context.Context, args ...any) error {
	r.args = append(r.args, args...)
	if len(r.args) < together*r.columns {
		return nil
	}
	_, err := r.manyNow.ExecContext(ctx, r.args...)
	r.args = r.args[:0]
	return err
}

// flush writes what is left.
func (r *rows) flush(ctx context.Context) error {
	for i := 0; i < len(r.args); i += r.columns {
		if _, err := r.oneNow.ExecContext(ctx, r.args[i:i+r.columns]...); err != nil {
			return err
		}
	}
	r.args = r.args[:0]
	return nil
}

func (r *rows) close() { _, _ = r.many.Close(), r.one.Close() }
