package bustest

import (
	"errors"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// CutCommits makes every transactional offset commit fail, as for a process
// that is cut off from its group's coordinator, until restore is called.
func (b *Broker) CutCommits() (restore func()) {
	var over atomic.Bool
	b.Cluster.ControlKey(int16(kmsg.TxnOffsetCommit), func(kmsg.Request) (kmsg.Response, error, bool) {
		b.Cluster.KeepControl()
		return nil, errors.New("cut off"), !over.Load()
	})
	return func() { over.Store(true) }
}
