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

// MoveLeaders refuses to tell offsets for so many questions, as leaders do that are
// new; left counts down.
func (b *Broker) MoveLeaders(times int32) (left *atomic.Int32) {
	return b.refuseOffsets(kerr.OffsetNotAvailable, times)
}

// Forbid refuses to tell offsets, as to who has no right to know, for so many questions.
func (b *Broker) Forbid(times int32) (left *atomic.Int32) {
	return b.refuseOffsets(kerr.TopicAuthorizationFailed, times)
}

func (b *Broker) refuseOffsets(why *kerr.Error, times int32) *atomic.Int32 {
	left := &atomic.Int32{}
	left.Store(times)
	b.Cluster.ControlKey(int16(kmsg.ListOffsets), func(asked kmsg.Request) (kmsg.Response, error, bool) {
		b.Cluster.KeepControl()
		if left.Load() == 0 {
			return nil, nil, false
		}
		left.Add(-1)
		resp := asked.ResponseKind().(*kmsg.ListOffsetsResponse)
		for _, topic := range asked.(*kmsg.ListOffsetsRequest).Topics {
			answer := kmsg.NewListOffsetsResponseTopic()
			answer.Topic = topic.Topic
			for _, p := range topic.Partitions {
				part := kmsg.NewListOffsetsResponseTopicPartition()
				part.Partition, part.ErrorCode = p.Partition, why.Code
				answer.Partitions = append(answer.Partitions, part)
			}
			resp.Topics = append(resp.Topics, answer)
		}
		return resp, nil, true
	})
	return left
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
