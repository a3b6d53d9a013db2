package bus

import (
	"context"

	"qstream/schemas"
)

// CreateOptions are the cluster's side of topic creation.
type CreateOptions struct {
	Replication int  // default: 3, or the number of brokers if fewer
	MinISR      int  // default: replication-1, at least 1
	Synced      bool // durability: synced (flush.messages=1)
}

// Create makes the topics that are missing, with explicit settings, and
// commits offset 0 for each of their groups that has no commit. It changes
// nothing that exists.
func (b *Bus) CreateTopics(ctx context.Context, topics []schemas.Topic, o CreateOptions) (created []string, err error) {
	panic("todo")
}

// Difference is one setting of a topic, group or broker that isn't as asked.
type Difference struct {
	Topic     string
	Setting   string
	Want, Got string
	Dangerous bool // a role refuses to start
	Why       string
}

// VerifyTopics compares what is with what should be.
func (b *Bus) VerifyTopics(ctx context.Context, topics []schemas.Topic, o CreateOptions) ([]Difference, error) {
	panic("todo")
}
