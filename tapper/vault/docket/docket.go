// Package docket keeps a vault's orders and its audit, on two sealed logs: what
// officers said, and who looked at it.
//
// Guarantee: a statement counts once it is in the log, at the append time of its
// record, and for everybody who reads the log alike, whatever process wrote it;
// readers check the signatures again.
// Guarantee: orders outlive the log's retention: all that holds is said again and
// again, and who starts reads from there.
// Guarantee: nothing of it shows outside: the logs are written at their rate,
// whether something is said or not, and no metric or line of a log depends on it.
//
// It doesn't ask who comes; office does.
package docket

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"qstream/bus"
	"qstream/schemas"
	"qstream/tapper/vault/order"
	"qstream/tapper/vault/sealed"
)

// Defaults of a Config.
const (
	defaultEvery = 5 * time.Second
	defaultSize  = 4096
)

// keepEnded is how long an order is said again after its end; the audit tells of
// it longer.
const keepEnded = 400 * 24 * time.Hour

// mostWaiting bounds what waits for its place on a log.
const mostWaiting = 1000

// ErrBusy is too much that waits for its place.
var ErrBusy = errors.New("too many wait, try again later")

// Config is what a Docket works with. Bus and Folder are required.
type Config struct {
	Bus    *bus.Bus
	Folder Folder
	Every  time.Duration    // the beat of both logs; default 5 s
	Size   int              // octets of their records; default 4096
	Now    func() time.Time // default time.Now
}

// Docket is a vault's orders and audit as they stand. Safe for concurrent use.
type Docket struct {
	cfg    Config
	orders *sealed.Queue
	acts   *sealed.Queue

	room chan struct{} // what waits

	mu    sync.Mutex
	book  *order.Book
	known time.Time // append time of the newest record of orders
	at    uint64    // and its number
	said  map[string]error
	sweep sweep
	read  reading
	begun bool          // a record was read
	on    chan struct{} // closed and made anew whenever an order changed
}

// New checks cfg; it starts nothing. A sealed.Set has to write and follow Logs.
func New(cfg Config) (*Docket, error) {
	if cfg.Bus == nil || cfg.Folder.Keys == nil {
		return nil, errors.New("docket: bus and folder are required")
	}
	if cfg.Every == 0 {
		cfg.Every = defaultEvery
	}
	if cfg.Size == 0 {
		cfg.Size = defaultSize
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	book, err := order.NewBook(cfg.Folder.Founding)
	if err != nil {
		return nil, fmt.Errorf("docket: %w", err)
	}
	d := &Docket{cfg: cfg, book: book, said: map[string]error{}, room: make(chan struct{}, mostWaiting), on: make(chan struct{})}
	d.orders, d.acts = sealed.NewQueue(d.take, d.again), sealed.NewQueue(func(sealed.Place, []byte) {}, nil)
	return d, nil
}

// Logs are what a sealed.Set has to write and follow.
func (d *Docket) Logs() []sealed.Topic {
	return []sealed.Topic{
		{Name: schemas.VaultOrders, Every: d.cfg.Every, Size: d.cfg.Size, Teller: d.orders},
		{Name: schemas.VaultAudit, Every: d.cfg.Every, Size: d.cfg.Size, Teller: d.acts},
	}
}

// Vault is the vault's ID.
func (d *Docket) Vault() string { return d.cfg.Folder.Founding.ID() }

// Orders are the orders as they stand: what finds those that cover a message, the
// number of the newest record of their log that it rests on, and that record's
// append time. What was accepted before that time is decided by it for good.
func (d *Docket) Orders() (m *order.Matcher, number uint64, known time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.book.Matcher(), d.at, d.known
}

// Changed is closed at the next change of an order or of the officers.
func (d *Docket) Changed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.on
}

// Officers are those of now. Don't change the map.
func (d *Docket) Officers() order.Officers {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.book.Officers()
}

// Book is a copy of the book as it stands.
func (d *Docket) Book() *order.Book {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.book.Fork()
}

// wait is Append to a queue, for as many at once as there is room.
func (d *Docket) wait(ctx context.Context, q *sealed.Queue, entry []byte) error {
	select {
	case d.room <- struct{}{}:
		defer func() { <-d.room }()
	default:
		return ErrBusy
	}
	return q.Append(ctx, entry)
}
