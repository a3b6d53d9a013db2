package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"qstream/ledger/audit"
	"qstream/ledger/fold"
)

// book is the view that an audit holds unfinished records against.
type book struct{ v *view }

var errReplaced = errors.New("the view was opened anew meanwhile")

func (l *Ledger) book() (audit.Book, error) {
	v := l.view.Load()
	if v == nil {
		return nil, fmt.Errorf("no view: %w", l.Ready())
	}
	return book{v}, nil
}

// CatchUp implements audit.Book. Other than an answer's, its patience is the
// audit's.
func (b book) CatchUp(ctx context.Context) (int64, error) {
	for {
		err := b.v.catchUp(ctx)
		switch {
		case b.v.Ledger.view.Load() != b.v:
			return 0, errReplaced
		case errors.Is(err, errBehind) && ctx.Err() == nil:
			continue
		case err != nil:
			return 0, err
		}
		b.v.mu.Lock()
		defer b.v.mu.Unlock()
		return b.v.done.Seq, nil
	}
}

// Note implements audit.Book.
func (b book) Note(_ context.Context, notes []fold.Note) error {
	if b.v.Ledger.view.Load() != b.v {
		return errReplaced
	}
	b.v.addNotes(notes)
	return nil
}

// Scratch implements audit.Book.
func (b book) Scratch(ctx context.Context) (*sql.DB, error) {
	return b.v.store.Scratch(ctx)
}
