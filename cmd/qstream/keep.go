package main

import (
	"context"
	"time"

	"qstream/bus/embedded"
	"qstream/directory"
	"qstream/schemas"
)

// keepRole trims the embedded broker's data; a cluster does that by itself.
func keepRole(b *embedded.Broker) role {
	return role{"housekeeping", func(g ground) (stage, error) { return &keeper{broker: b, ground: g}, nil }}
}

type keeper struct {
	broker *embedded.Broker
	ground ground
}

func (k *keeper) Run(ctx context.Context) error {
	return k.broker.Keep(ctx, embedded.Keeping{Bus: k.ground.bus, Topics: k.topics, Now: k.ground.now})
}

func (k *keeper) Ready() error { return nil }

// topics are all there are now, those of purged queues included.
func (k *keeper) topics() []schemas.Topic {
	s := k.ground.directory.Snapshot()
	return append(append(schemas.FixedTopics(), s.Topics(receivedKept())...), retired(s)...)
}

func retired(s *directory.Snapshot) []schemas.Topic {
	var topics []schemas.Topic
	for _, q := range s.Retired() {
		topics = append(topics, schemas.QueueTopics(q.Name, q.Generation, q.Pool, q.Partitions)...)
		if q.Scanned {
			topics = append(topics, schemas.ScanTopics(q.Name, q.Generation, q.Pool, q.Partitions)...)
		}
	}
	return topics
}

// receivedKept is how long the topic table keeps messages.
func receivedKept() time.Duration {
	for _, t := range schemas.FixedTopics() {
		if t.Name == schemas.Received {
			return t.Retention
		}
	}
	return schemas.Forever
}
