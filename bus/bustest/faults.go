package bustest

import (
	"errors"
	"slices"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kerr"
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

// RefuseSettings makes the broker refuse to tell the settings of topics, as to
// who has no right to them: of those that refuse was called with last.
func (b *Broker) RefuseSettings() (refuse func(topics ...string)) {
	var refused atomic.Pointer[[]string]
	b.Cluster.ControlKey(int16(kmsg.DescribeConfigs), func(r kmsg.Request) (kmsg.Response, error, bool) {
		b.Cluster.KeepControl()
		names, req := refused.Load(), r.(*kmsg.DescribeConfigsRequest)
		if names == nil {
			return nil, nil, false
		}
		res := req.ResponseKind().(*kmsg.DescribeConfigsResponse)
		for _, asked := range req.Resources {
			if slices.Contains(*names, asked.ResourceName) {
				one := kmsg.NewDescribeConfigsResponseResource()
				one.ResourceType, one.ResourceName, one.ErrorCode = asked.ResourceType, asked.ResourceName, kerr.TopicAuthorizationFailed.Code
				res.Resources = append(res.Resources, one)
			}
		}
		return res, nil, len(res.Resources) > 0
	})
	return func(topics ...string) { refused.Store(&topics) }
}
