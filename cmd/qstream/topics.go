package main

import (
	"context"

	"qstream/bus"
	"qstream/directory"
	"qstream/schemas"
)

// topicsCmd looks after the topics of an installation.
type topicsCmd struct {
	List   topicsListCmd   `cmd:"" help:"List the topics, what they hold and how far their groups are."`
	Create topicsCreateCmd `cmd:"" help:"Create the topics that are missing; change nothing that exists."`
	Verify topicsVerifyCmd `cmd:"" help:"Compare the topics with what they should be, and explain."`
	Resume topicsResumeCmd `cmd:"" help:"Let groups go on whose place on a topic is lost."`
}

// sizeFlags are the choices of an installation about its topics.
type sizeFlags struct {
	Keep        string `placeholder:"DURATION" help:"Keep messages so long: the longest lifetime, the longest bounce lifetime and a day (default: 7d)."`
	Partitions  int32  `placeholder:"N" help:"Partitions of the topics that all mail passes (default: 3)."`
	Replication int    `placeholder:"N" help:"Copies of each record (default: 3, or as many as there are brokers)."`
	MinISR      int    `name:"min-isr" placeholder:"N" help:"Copies that must exist before mail is accepted (default: one less than --replication)."`
	Synced      bool   `help:"Each broker flushes each record to its disk before it acknowledges."`
}

func (f sizeFlags) sizing() (schemas.Sizing, error) {
	s := schemas.Sizing{Partitions: f.Partitions}
	if f.Keep == "" {
		return s, nil
	}
	var err error
	if s.Mail, err = directory.ParseDuration(f.Keep); err != nil {
		return s, usagef("--keep: %w", err)
	}
	return s, nil
}

func (f sizeFlags) options() bus.CreateOptions {
	return bus.CreateOptions{Replication: f.Replication, MinISR: f.MinISR, Synced: f.Synced}
}

// every is the table of this installation: the fixed topics and those of the
// directory's queues, retired ones included, if there is a directory.
func (f sizeFlags) every(ctx context.Context, b *bus.Bus) ([]schemas.Topic, error) {
	size, err := f.sizing()
	if err != nil {
		return nil, err
	}
	topics := size.Fixed()
	states, err := b.States(ctx, topics)
	if err != nil {
		return nil, err
	}
	for _, s := range states {
		if s.Name == schemas.Directory && s.Missing {
			return topics, nil
		}
	}
	head, err := directory.Read(ctx, b)
	if err != nil {
		return nil, err
	}
	topics = append(topics, head.Topics(size.Mail)...)
	for _, q := range head.Retired() {
		topics = append(topics, size.Queue(q.Name, q.Generation, q.Pool, q.Partitions)...)
		if q.Scanned {
			topics = append(topics, size.Scan(q.Name, q.Generation, q.Pool, q.Partitions)...)
		}
	}
	return topics, nil
}
