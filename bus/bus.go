// Package bus is the only importer of the Kafka client: everything that
// qstream publishes or consumes goes through its few shapes.
//
//	Publish    records, acknowledged by all in-sync replicas
//	Transform  records to records, exactly once
//	Work       jobs in flight that finish out of order, journaled
//	Hold       records that wait for a time or a command
//	Read       bounded reading, Follow: reading on
//	Create     content, in chunks; Open reads it again
package bus

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// AnyPartition lets the key choose a record's partition.
const AnyPartition int32 = -1

// Record is one record of a topic.
type Record struct {
	Topic     string
	Partition int32 // AnyPartition: the key decides
	Offset    int64 // set by reading and by Publish
	Key       []byte
	Value     []byte
	Headers   []Header
	Time      time.Time // append time; set by reading and by Publish
}

// Header is one header of a record.
type Header struct {
	Key   string
	Value []byte
}

// Errors that callers tell apart.
var (
	// ErrPoison wraps the error of a step that no retry can mend: the record
	// goes to the deadletter topic and the partition goes on.
	ErrPoison = errors.New("record can't be processed")
	// ErrContent is content that can't be read as it was stored (missing
	// offset, wrong id, wrong hash). It is temporary for mail.
	ErrContent = errors.New("content unreadable")
)

// Config is how a process reaches its broker. Seeds are required.
type Config struct {
	Seeds    []string // host:port
	ClientID string   // default "qstream"
	TLS      *tls.Config
	SASL     SASL
	// Barrier makes what the broker acknowledged durable (embedded broker).
	// Nil: the broker's acknowledgement is durable by itself.
	Barrier    func(context.Context) error
	Timeout    time.Duration    // of Publish; default 15 s
	Session    time.Duration    // group session timeout; default 6 s
	Now        func() time.Time // default time.Now; injected by tests
	Log        *slog.Logger
	Registerer prometheus.Registerer
	// Failpoint is called by name at the points where a crash hurts; nil in
	// production.
	Failpoint func(name string)
}

// SASL is how the process authenticates. Mechanism "" is none.
type SASL struct {
	Mechanism string // "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"
	User      string
	Password  string
}

// Step makes the outputs of one record. State is the partition's opaque state
// (at most 1 KiB), committed with the offset. An error that wraps ErrPoison
// sends the record to deadletter; any other is retried with back-off.
type Step func(ctx context.Context, state []byte, r Record) (out []Record, next []byte, err error)

// Transform consumes topics in a group; outputs, state and offset of each
// record become visible in one transaction. It returns when ctx ends, after
// what was begun is committed or abandoned.
func (b *Bus) Transform(ctx context.Context, group string, from *Topics, step Step) error {
	panic("todo")
}

// WorkConfig are the bounds of a Work. Zero values take the defaults.
type WorkConfig struct {
	Group   string
	From    *Topics
	MaxHeld int           // jobs handed out and unfinished, per process; default 16384
	MaxOpen int           // jobs begun or finished and not yet committed; default 1000
	Drain   time.Duration // how long a revoke waits for begun jobs; default 45 s
	Ready   func() bool   // Begin waits while it is false (lease, clock, freshness); nil: always
	Stage   string        // named in deadletter records
}

// Work hands each record to take as a Job, which may finish in any order.
// take must not block. It returns when ctx ends, after the drain.
func (b *Bus) Work(ctx context.Context, cfg WorkConfig, take func(*Job)) error { panic("todo") }

// Job is one record to work on; its methods are safe for concurrent use.
type Job struct {
	Record Record
}

// Marks are the results that an earlier owner journaled for this record, in
// order, and this one's.
func (j *Job) Marks() [][]byte { panic("todo") }

// Begin asks for leave to do something that can't be undone. It waits for
// room, for the lease and for WorkConfig.Ready; it returns false once the
// partition is revoked or the process stops: forget the job then. The context
// ends when the drain's time is over; finish the job as unconfirmed then.
func (j *Job) Begin(ctx context.Context) (context.Context, bool) { panic("todo") }

// Revoked is closed when the partition is being given up: begin nothing new,
// cut what is not past its point of no return, and let the rest end.
func (j *Job) Revoked() <-chan struct{} { panic("todo") }

// Mark journals a result: durable when it returns nil.
func (j *Job) Mark(ctx context.Context, result []byte) error { panic("todo") }

// Finish ends the job: outputs and progress become visible in one
// transaction, which is repeated if it aborts. Call it once.
func (j *Job) Finish(out ...Record) { panic("todo") }

// Abandon ends the job as not done: after Begin, when it was cut before its
// point of no return. The record goes to the next owner, or is handed out
// again here if the partition stays.
func (j *Job) Abandon() { panic("todo") }

// Deadletter ends the job by moving its record to the deadletter topic; out
// are published with it.
func (j *Job) Deadletter(err error, out ...Record) { panic("todo") }

// Entry is what a Holder remembers of a waiting record. Strings are interned.
type Entry struct {
	Due         time.Time // released by the clock then
	Born        time.Time // for expiry by Pull
	Appended    time.Time // append time of the waiting record, set by bus
	Tenant      string
	Queue       string
	Destination string
	ID          string    // message id (26 characters)
	Content     time.Time // until then its content is safe where it is; for Pull
	Kind        uint8     // what else the stage's Pull tells entries apart by
}

// HoldConfig says what is held and what a release makes of it.
type HoldConfig struct {
	Group string
	From  *Topics
	Stage string
	// Entry reads a record; an error that wraps ErrPoison sends it to deadletter.
	Entry func(Record) (Entry, error)
	// Release makes the outputs of a released record. Pulled tells a release
	// by Pull from one by the clock. An error that wraps ErrPoison sends the
	// record to deadletter; any other is retried.
	Release func(ctx context.Context, e Entry, r Record, pulled bool) ([]Record, error)
}

// Hold makes a Holder; it starts nothing.
func (b *Bus) Hold(cfg HoldConfig) (*Holder, error) { panic("todo") }

// Holder keeps an index of waiting records and releases them: outputs and a
// marker in the record's own partition in one transaction.
type Holder struct{}

// Run consumes and releases until ctx ends.
func (h *Holder) Run(ctx context.Context) error { panic("todo") }

// Pull releases now what matches, in the partitions this process owns, and
// says how many were released. It waits until the index is complete.
func (h *Holder) Pull(ctx context.Context, match func(Entry) bool) (int, error) { panic("todo") }

// Each calls f for every waiting entry of this process's partitions.
func (h *Holder) Each(f func(Entry)) { panic("todo") }

// Ready is nil when every assigned partition's index is complete.
func (h *Holder) Ready() error { panic("todo") }

// Waiting calls each for every unfinished record of a group's topics: beyond
// its commits, less what the commits' metadata and the markers tell finished.
func (b *Bus) Waiting(ctx context.Context, group string, topics []string, each func(Record) error) error {
	panic("todo")
}
