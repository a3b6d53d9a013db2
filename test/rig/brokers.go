package rig

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"qstream/bus/bustest"
	"qstream/test/kafka"
)

// Brokers are Apache Kafka clusters that systems use one after the other: a
// cluster takes longer to start than most tests need it, and new brokers compute
// far more than those that have run for a while. Methods may be called at once.
type Brokers struct {
	Kind string // "kafka1", "kafka3"; others are lent nothing

	mu   sync.Mutex
	idle []*kafka.Cluster
}

// Lend gives a system that has no broker yet an empty cluster of its own, until
// GiveBack.
func (b *Brokers) Lend(s *System) error {
	if s.Broker == "embedded" {
		return nil
	}
	if s.Kafka = b.take(); s.Kafka != nil {
		return nil
	}
	var err error
	s.Kafka, err = start(b.Kind, "", nil)
	return err
}

// take is an idle cluster, or nil.
func (b *Brokers) take() *kafka.Cluster {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(b.idle)
	if n == 0 {
		return nil
	}
	c := b.idle[n-1]
	b.idle = b.idle[:n-1]
	return c
}

// GiveBack ends the system and empties its cluster for the next. One that can't be
// emptied is ended too.
func (b *Brokers) GiveBack(s *System) error {
	cluster := s.Kafka
	s.Kafka = nil
	s.Close()
	if cluster == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if err := bustest.Wipe(ctx, cluster.Seeds()); err != nil {
		return errors.Join(fmt.Errorf("empty the brokers: %w", err), cluster.Stop())
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.idle = append(b.idle, cluster)
	return nil
}

// Close ends the clusters, all of which were given back.
func (b *Brokers) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var errs []error
	for _, c := range b.idle {
		errs = append(errs, c.Stop())
	}
	b.idle = nil
	return errors.Join(errs...)
}

// StartBroker starts the Kafka cluster, if it is one and isn't there yet.
func (s *System) StartBroker() (err error) {
	if s.Broker == "embedded" || s.Kafka != nil {
		return nil
	}
	s.Kafka, err = start(s.Broker, filepath.Join(s.Work, "kafka"), s.Front)
	return err
}

// start starts a cluster; its folder is a temporary one if it is "".
func start(kind, dir string, front func(name, addr string) (string, error)) (*kafka.Cluster, error) {
	n := 1
	if kind == "kafka3" {
		n = 3
	}
	ctx, cancel := context.WithTimeout(context.Background(), 4*Patience)
	defer cancel()
	return kafka.Start(ctx, kafka.Options{
		Brokers: n, Dir: dir, Front: front,
		Extra: []string{"log.retention.check.interval.ms=1000", "log.initial.task.delay.ms=1000", "log.segment.delete.delay.ms=1000"},
	})
}
