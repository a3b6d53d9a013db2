package bus

import (
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// lease knows when the group coordinator last heard of this process. A
// process that wakes from a freeze would start work for some milliseconds
// before it hears that its partitions are gone.
type lease struct {
	session time.Duration
	wall    atomic.Int64 // Unix nanoseconds
	mono    atomic.Int64 // since start
	start   time.Time
}

func newLease(session time.Duration) *lease {
	return &lease{session: session, start: time.Now()}
}

// OnBrokerE2E notes when an answered group request was written: its reply may
// have been read much later.
func (l *lease) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, e2e kgo.BrokerE2E) {
	switch kmsg.Key(key) {
	case kmsg.ConsumerGroupHeartbeat, kmsg.Heartbeat, kmsg.JoinGroup, kmsg.SyncGroup:
	default:
		return
	}
	if e2e.WriteErr != nil || e2e.ReadErr != nil {
		return
	}
	at := time.Now().Add(-e2e.DurationE2E())
	l.wall.Store(at.UnixNano())
	l.mono.Store(int64(at.Sub(l.start)))
}

// valid compares by the wall clock as well, since Go's monotonic clock stands
// still while a virtual machine is suspended.
func (l *lease) valid() bool {
	now := time.Now()
	return now.UnixNano()-l.wall.Load() < int64(l.session) && now.Sub(l.start)-time.Duration(l.mono.Load()) < l.session
}
