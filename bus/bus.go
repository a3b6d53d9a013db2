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
	"io"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	pb "qstream/schemas/qstream/v1"
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

// Bus is a process's connection to its broker, safe for concurrent use.
type Bus struct{}

// Dial connects lazily: it validates cfg and starts nothing.
func Dial(cfg Config) (*Bus, error) { panic("todo") }

// Close flushes and disconnects; the shapes must have returned before.
func (b *Bus) Close() { panic("todo") }

// Ping reports whether a broker answers.
func (b *Bus) Ping(ctx context.Context) error { panic("todo") }

// Skew is how far this process's clock is from the broker's append times
// (positive: ours is ahead); ok is false until the first measure.
func (b *Bus) Skew() (skew time.Duration, ok bool) { panic("todo") }

// Publish returns nil once all records are acknowledged by all in-sync
// replicas and the barrier passed. Partition, Offset and Time are set.
// On error some may be stored nevertheless.
func (b *Bus) Publish(ctx context.Context, rs ...*Record) error { panic("todo") }

// Topics is a set of topic names that may change while it is consumed; safe
// for concurrent use.
type Topics struct{}

func NewTopics(names ...string) *Topics { panic("todo") }
func (t *Topics) Set(names ...string)   { panic("todo") }
func (t *Topics) Names() []string       { panic("todo") }

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
	ID          string // message id (26 characters)
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

// Start is where reading starts: the zero Start is the oldest record.
type Start struct {
	Since  time.Time                  // first record appended at or after
	End    bool                       // behind the newest record
	Offset map[string]map[int32]int64 // exact; wins over the others
}

// Read calls apply for the committed records of topics from start up to the
// ends at the time of the call, each partition in order; apply is not called
// concurrently. A garbage record is passed as it is.
func (b *Bus) Read(ctx context.Context, topics []string, start Start, apply func(Record) error) error {
	panic("todo")
}

// Follow reads on for ever.
func (b *Bus) Follow(topics []string, start Start, apply func(Record) error) *Follower { panic("todo") }

// Follower is a Read that goes on.
type Follower struct{}

// Run reads until ctx ends or apply fails.
func (f *Follower) Run(ctx context.Context) error { panic("todo") }

// CaughtUp is closed once everything that was there at the start is applied.
func (f *Follower) CaughtUp() <-chan struct{} { panic("todo") }

// Fresh is the latest time for which it is confirmed that everything appended
// before it has been applied; refreshed at least twice a second while the
// broker answers.
func (f *Follower) Fresh() time.Time { panic("todo") }

// InlineLimit is the largest content that travels in its received record.
const InlineLimit = 32 << 10

// Create starts content of a message in a retention class. Write to it, then
// Commit or Abort.
func (b *Bus) Create(ctx context.Context, messageID, class string) *Blob { panic("todo") }

// Blob is content being stored. It keeps at most two chunks in memory.
type Blob struct{}

func (w *Blob) Write(p []byte) (int, error) { panic("todo") }

// Commit makes the content durable (or returns it inline) with size and hash.
func (w *Blob) Commit() (*pb.Content, error) { panic("todo") }

// Abort forgets the content; chunks already stored age out.
func (w *Blob) Abort() { panic("todo") }

// Open reads stored content. The reader returns an error that wraps
// ErrContent instead of io.EOF when size or hash are not as stored.
func (b *Bus) Open(ctx context.Context, ref *pb.ContentRef) (io.ReadCloser, error) { panic("todo") }

// Committed is the group's committed offset by topic and partition, and the
// partition's end: what is between waits (lag).
func (b *Bus) Lag(ctx context.Context, group string, topics []string) (map[string]map[int32]int64, error) {
	panic("todo")
}
