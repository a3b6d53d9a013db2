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
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
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

// Header is one header of a record: a key and a value. It is the client's own
// type, so that none is copied on the way in and out.
type Header = kgo.RecordHeader

// Errors that callers tell apart.
var (
	// ErrPoison wraps the error of a step that no retry can mend: the record
	// goes to the deadletter topic and the partition goes on.
	ErrPoison = errors.New("record can't be processed")
	// ErrContent is content that can't be read as it was stored (missing
	// offset, wrong id, wrong hash). It is temporary for mail.
	ErrContent = errors.New("content unreadable")
	// ErrFull is storage without room for new mail (452 4.3.1).
	ErrFull = errors.New("storage is full")
)

// Config is how a process reaches its broker. Seeds are required.
type Config struct {
	Seeds    []string // host:port
	ClientID string   // default "qstream"
	TLS      *tls.Config
	SASL     SASL
	// Dial connects to a broker's address (embedded broker). Nil: over TCP.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Barrier makes what the broker acknowledged durable (embedded broker).
	// Nil: the broker's acknowledgement is durable by itself.
	Barrier func(context.Context) error
	// Lost fails if a flush failed since then (embedded broker): Barrier
	// speaks for what was acknowledged a moment ago, content of many chunks
	// may have taken minutes. Nil: never.
	Lost func(since time.Time) error
	// Spent is told of large content that was read to its good end: where its
	// chunks are. It is seldom read again (embedded broker). It may be called
	// by many at once, and again for the same content. Nil: nobody asks.
	Spent func(topic string, partition int32, offsets []int64)
	// Admit refuses new mail with an error, by wrapping ErrFull: it is asked
	// before a received record or content is stored. Nil: never.
	Admit      func() error
	Timeout    time.Duration    // of Publish; default 15 s
	Patience   time.Duration    // of Read without any broker; default: as long as ctx lets it
	Session    time.Duration    // group session timeout; default 6 s
	Release    time.Duration    // of the commit that lets partitions go at a stop; default 20 s
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
