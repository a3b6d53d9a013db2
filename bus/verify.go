package bus

import (
	"context"

	"qstream/schemas"
)

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
