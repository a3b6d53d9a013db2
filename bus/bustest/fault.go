package bustest

import (
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Freeze makes the broker take produce requests and answer none, until thaw.
// What came meanwhile is stored then.
func (b *Broker) Freeze() (thaw func()) {
	frozen := make(chan struct{})
	b.Cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		select {
		case <-frozen:
			return nil, nil, false
		default:
		}
		b.Cluster.KeepControl()
		b.Cluster.SleepControl(func() { <-frozen })
		return nil, nil, false
	})
	return sync.OnceFunc(func() { close(frozen) })
}

// PlaceFetches counts the fetches that ask for a place, as Bus.At and Bus.Open
// do, from now on. Those of readers belong to a session; that which ends one
// names no topic.
func (b *Broker) PlaceFetches() (n func() int64) {
	var count atomic.Int64
	b.Cluster.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		b.Cluster.KeepControl()
		if f, ok := r.(*kmsg.FetchRequest); ok && f.SessionEpoch < 0 && len(f.Topics) > 0 {
			count.Add(1)
		}
		return nil, nil, false
	})
	return count.Load
}
