package bus

import (
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The coordinator of a group may hear of a new topic later than the broker
// that told of it.
func TestCommitWaitsForTheCoordinatorToKnowTheTopic(t *testing.T) {
	t.Parallel()
	b, fake := newTestBus(t)
	if fake == nil {
		t.Skip("plants a fault in the broker in memory")
	}
	var asked atomic.Int64
	fake.ControlKey(int16(kmsg.OffsetCommit), func(req kmsg.Request) (kmsg.Response, error, bool) {
		fake.KeepControl()
		if asked.Add(1) > 3 {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
		for _, rt := range req.(*kmsg.OffsetCommitRequest).Topics {
			topic := kmsg.NewOffsetCommitResponseTopic()
			topic.Topic, topic.TopicID = rt.Topic, rt.TopicID
			for _, rp := range rt.Partitions {
				p := kmsg.NewOffsetCommitResponseTopicPartition()
				p.Partition, p.ErrorCode = rp.Partition, kerr.UnknownTopicOrPartition.Code
				topic.Partitions = append(topic.Partitions, p)
			}
			resp.Topics = append(resp.Topics, topic)
		}
		return resp, nil, true
	})
	topic := newTopic(t, b, 2)
	parts := map[string][]int32{topic.Name: {0, 1}}
	got, err := b.committed(t.Context(), topic.Groups[0], parts)
	if err != nil || len(got[topic.Name]) != 2 || asked.Load() < 4 {
		t.Fatalf("commits %v after %d requests, %v", got, asked.Load(), err)
	}
}
