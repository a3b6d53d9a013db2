package bustest

import (
	"sync"

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
