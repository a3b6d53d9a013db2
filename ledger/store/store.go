// Package store keeps the ledger's view in a SQLite file: what is known of
// messages, recipients and unfinished legs, and how far the events topic has
// been folded.
//
// Guarantee: rows and positions are written in one transaction: after a kill
// the view is as of its positions.
//
// Guarantee: a file that is damaged, of another schema, or of another topic is
// never read: it is made anew, and empty.
//
// Everything here can be built again from the log, so that a loss of power may
// cost the last transactions, which are then folded again. Nothing here reads
// the log.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"qstream/bus/dirlock"
)

// ErrDamaged is wrapped when the file can't be trusted any more: it has to be
// opened anew with Reset.
var ErrDamaged = errors.New("the ledger's file is damaged")

// fileName is the database in its directory.
const fileName = "ledger.sqlite"

// pageBytes is SQLite's page.
const pageBytes = 4096

// readers bounds how many queries run at a time.
const readers = 4

// Store is an open file. One goroutine writes; reading is safe for concurrent
// use, and sees what was written last.
type Store struct {
	path     string
	maxBytes int64
	lock     *dirlock.Lock
	file     os.FileInfo // of what was opened
	write    *sql.DB     // of one connection
	read     *sql.DB
	bulk     *writer
}

// Options are how a file is opened.
type Options struct {
	// Dir holds the file; it is made. One process has it at a time.
	Dir string
	// Topic identifies cluster and topic that the view is of.
	Topic string
	// Reset throws away what is there.
	Reset bool
	// MaxBytes bounds the file: beyond it writing fails, as on a full disk.
	// 0: no bound.
	MaxBytes int64
}

// Open opens the view of a topic. Fresh says why it is empty and has to be
// built from the log; it is empty if the file was good.
func Open(ctx context.Context, o Options) (s *Store, fresh string, err error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, "", fmt.Errorf("make the ledger's directory: %w", err)
	}
	lock, err := take(o.Dir)
	if err != nil {
		return nil, "", err
	}
	s = &Store{path: filepath.Join(o.Dir, fileName), maxBytes: o.MaxBytes, lock: lock}
	defer func() {
		if err != nil {
			s.Close()
			s = nil
		}
	}()
	if fresh, err = s.unfit(ctx, o); err != nil {
		return s, "", err
	}
	if fresh != "" {
		if err := s.remove(); err != nil {
			return s, "", err
		}
		if err := s.open(ctx); err != nil {
			return s, "", err
		}
		if err := s.create(ctx, o.Topic); err != nil {
			return s, "", err
		}
	}
	if s.file, err = os.Stat(s.path); err != nil {
		return s, "", fmt.Errorf("look at the ledger's file: %w", err)
	}
	s.bulk, err = newWriter(ctx, s.write)
	return s, fresh, err
}

// There fails if the file is not in its place any more: what is written then
// is gone with the process, and who opens it anew, as Scratch does, finds
// nothing, or another.
func (s *Store) There() error {
	now, err := os.Stat(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(s.file, now):
		return fmt.Errorf("%w: it was taken away", ErrDamaged)
	case err != nil:
		return fmt.Errorf("look for the ledger's file: %w", err)
	}
	return nil
}

// take makes sure that no other process writes the file.
func take(dir string) (*dirlock.Lock, error) {
	lock, err := dirlock.Take(filepath.Join(dir, "ledger.lock"))
	switch {
	case errors.Is(err, dirlock.ErrTaken):
		return nil, fmt.Errorf("another ledger has %s: %w", dir, err)
	case err != nil:
		return nil, fmt.Errorf("lock the ledger's directory: %w", err)
	}
	return lock, nil
}

// unfit opens what is there and says why it can't be used; "": it can.
func (s *Store) unfit(ctx context.Context, o Options) (string, error) {
	if o.Reset {
		return "it was to be built anew", nil
	}
	if _, err := os.Stat(s.path); errors.Is(err, fs.ErrNotExist) {
		return "there was none", nil
	} else if err != nil {
		return "", fmt.Errorf("look for the ledger's file: %w", err)
	}
	if err := s.open(ctx); errors.Is(err, ErrDamaged) {
		return "it was damaged", nil
	} else if err != nil {
		return "", err
	}
	var have int
	if err := s.write.QueryRowContext(ctx, `PRAGMA user_version`).Scan(&have); err != nil {
		return unread(err)
	}
	if have != version {
		return fmt.Sprintf("its schema was %d, this is %d", have, version), nil
	}
	var topic string
	err := s.write.QueryRowContext(ctx, `SELECT topic FROM meta`).Scan(&topic)
	if errors.Is(err, sql.ErrNoRows) {
		return "it was never begun", nil
	} else if err != nil {
		return unread(err)
	}
	if topic != o.Topic {
		return "it was of another cluster or topic", nil
	}
	return "", nil
}

func unread(err error) (string, error) {
	if err = failed("read the ledger's file", err); errors.Is(err, ErrDamaged) {
		return "it was damaged", nil
	}
	return "", err
}

// open connects to the file. It names senders and recipients, and is readable
// by nobody else, wherever it is copied to with its mode; what SQLite makes
// beside it has the same mode.
func (s *Store) open(ctx context.Context) error {
	if err := own(s.path); err != nil {
		return err
	}
	common := []string{"busy_timeout(10000)", "temp_store(MEMORY)"}
	var err error
	writing := append(slices.Clone(common),
		"journal_mode(WAL)",
		// A loss of power costs the last transactions, which the log has.
		"synchronous(NORMAL)",
		"cache_size(-16384)",
		"wal_autocheckpoint(4000)",
		"journal_size_limit(67108864)",
	)
	if s.maxBytes > 0 {
		writing = append(writing, fmt.Sprintf("max_page_count(%d)", max(1, s.maxBytes/pageBytes)))
	}
	s.write, err = connect(s.path, 1, writing)
	if err != nil {
		return err
	}
	if err := s.write.PingContext(ctx); err != nil {
		return failed("open the ledger's file", err)
	}
	s.read, err = connect(s.path, readers, append(slices.Clone(common), "query_only(1)", "cache_size(-4096)"))
	return err
}

// own makes a file, or takes it from others. Nobody may have it open here:
// closing it would end SQLite's locks.
func own(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("make the ledger's file: %w", err)
	}
	if err := errors.Join(f.Chmod(0o600), f.Close()); err != nil {
		return fmt.Errorf("make the ledger's file: %w", err)
	}
	return nil
}

// connect opens a path; it doesn't make the file.
func connect(path string, most int, pragmas []string) (*sql.DB, error) {
	query := url.Values{"_pragma": pragmas, "mode": {"rw"}}
	from := url.URL{Scheme: "file", Path: path, RawQuery: query.Encode()}
	db, err := sql.Open("sqlite", from.String())
	if err != nil {
		return nil, fmt.Errorf("open the ledger's file: %w", err)
	}
	db.SetMaxOpenConns(most)
	db.SetMaxIdleConns(most)
	return db, nil
}

// create makes the tables of a new file.
func (s *Store) create(ctx context.Context, topic string) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return failed("make the ledger's tables", err)
	}
	for _, q := range []string{schema, fmt.Sprintf("PRAGMA user_version = %d", version)} {
		if _, err = tx.ExecContext(ctx, q); err != nil {
			return errors.Join(failed("make the ledger's tables", err), tx.Rollback())
		}
	}
	if _, err = tx.ExecContext(ctx, `INSERT INTO meta VALUES (?, 0)`, topic); err != nil {
		return errors.Join(failed("make the ledger's tables", err), tx.Rollback())
	}
	return failed("make the ledger's tables", tx.Commit())
}

// remove deletes the file and what SQLite keeps beside it.
func (s *Store) remove() error {
	s.disconnect()
	s.read, s.write = nil, nil
	for _, name := range []string{s.path, s.path + "-wal", s.path + "-shm"} {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the ledger's file: %w", err)
		}
	}
	return nil
}

func (s *Store) disconnect() {
	if s.bulk != nil {
		s.bulk.close()
	}
	for _, db := range []*sql.DB{s.read, s.write} {
		if db != nil {
			_ = db.Close()
		}
	}
}

// Close lets the file go. Questions that are being answered fail.
func (s *Store) Close() {
	s.disconnect()
	_ = s.lock.LetGo()
}

// Scratch is a connection of its own with a schema "scratch" for tables that
// go with it, beside those of the file, which it only reads. They are on the
// ledger's disk, since a folder for temporary files may be in memory. One at a
// time; the caller closes it.
func (s *Store) Scratch(ctx context.Context) (*sql.DB, error) {
	db, err := connect(s.path, 1, []string{"busy_timeout(10000)", "cache_size(-8192)"})
	if err != nil {
		return nil, err
	}
	db.SetConnMaxIdleTime(0) // the schema lives with its connection
	path := filepath.Join(filepath.Dir(s.path), "scratch.sqlite")
	_ = os.Remove(path) // of who was killed
	for _, q := range []string{
		"ATTACH '" + strings.ReplaceAll(path, "'", "''") + "' AS scratch",
		"PRAGMA scratch.journal_mode = OFF", "PRAGMA scratch.synchronous = OFF", "PRAGMA scratch.cache_size = -8192",
		"PRAGMA scratch.user_version = 1", // now the file is there, and open
	} {
		if _, err := db.ExecContext(ctx, q); err != nil {
			return nil, errors.Join(failed("make a table beside the ledger", err), db.Close())
		}
	}
	if err := os.Remove(path); err != nil {
		return nil, errors.Join(fmt.Errorf("make a table beside the ledger: %w", err), db.Close())
	}
	return db, nil
}

// failed says what was attempted, and whether the file is at fault. nil stays
// nil.
func failed(what string, err error) error {
	if err == nil {
		return nil
	}
	if e := (*sqlite.Error)(nil); errors.As(err, &e) {
		switch e.Code() & 0xff {
		case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
			return fmt.Errorf("%s: %w: %w", what, ErrDamaged, err)
		}
	}
	// A table that is missing was never made here.
	if strings.Contains(err.Error(), "no such table") {
		return fmt.Errorf("%s: %w: %w", what, ErrDamaged, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
