package bustest

import (
	"context"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// MoveLeaders gives every partition of a real cluster, those of its internal
// topics too, to the next of its replicas, and returns how many it asked for.
// Replicas that aren't in sync keep a partition where it is.
func MoveLeaders(ctx context.Context, seeds []string) (int, error) {
	c, err := kgo.NewClient(kgo.SeedBrokers(seeds...))
	if err != nil {
		return 0, err
	}
	defer c.Close()
	admin := kadm.NewClient(c)
	topics, err := admin.ListTopicsWithInternal(ctx)
	if err != nil {
		return 0, fmt.Errorf("list topics: %w", err)
	}
	next := kadm.AlterPartitionAssignmentsReq{}
	moved := kadm.TopicsSet{}
	topics.EachPartition(func(p kadm.PartitionDetail) {
		if len(p.Replicas) > 1 {
			next.Assign(p.Topic, p.Partition, slices.Concat(p.Replicas[1:], p.Replicas[:1]))
			moved.Add(p.Topic, p.Partition)
		}
	})
	if len(next) == 0 {
		return 0, nil
	}
	if _, err := admin.AlterPartitionAssignments(ctx, next); err != nil {
		return 0, fmt.Errorf("order replicas: %w", err)
	}
	if _, err := admin.ElectLeaders(ctx, kadm.ElectPreferredReplica, moved); err != nil {
		return 0, fmt.Errorf("elect leaders: %w", err)
	}
	n := 0
	for _, partitions := range moved {
		n += len(partitions)
	}
	return n, nil
}
