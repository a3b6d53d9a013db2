package embedded

import (
	"math"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// partitionFetch is how much of one partition an answer holds at most, but for
// its first batch. An answer is bounded by it and the number of partitions
// alone, so it is small: 64 MiB where a thousand have a backlog.
const partitionFetch = 64 << 10

// boundFetches lets an answer end at the bounds of its partitions, never at
// its own: where the broker stops at the latter it leaves out which
// transactions of that partition were aborted, and readers would take their
// records for committed ones.
func boundFetches(c *kfake.Cluster) {
	c.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		if f, ok := r.(*kmsg.FetchRequest); ok {
			bound(f)
		}
		return nil, nil, false
	})
}

// bound changes a request. One that asks for a single partition outside a
// session keeps its bound: its answer can't become larger than it asks for.
func bound(f *kmsg.FetchRequest) {
	f.MaxBytes = math.MaxInt32
	if f.SessionEpoch == -1 && len(f.Topics) == 1 && len(f.Topics[0].Partitions) == 1 {
		return
	}
	for i := range f.Topics {
		for j := range f.Topics[i].Partitions {
			p := &f.Topics[i].Partitions[j]
			p.PartitionMaxBytes = min(p.PartitionMaxBytes, partitionFetch)
		}
	}
}
