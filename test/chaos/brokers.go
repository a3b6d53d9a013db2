package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"qstream/test/kafka"
)

// brokers does the faults of Kafka brokers.
func (w *world) brokers(ctx context.Context, f Fault) error {
	victims := w.victims(f)
	do := func(each func(*kafka.Broker) error) error {
		errs := make(chan error, len(victims))
		for _, b := range victims {
			go func() { errs <- each(b) }()
		}
		var all []error
		for range victims {
			all = append(all, <-errs)
		}
		return errors.Join(all...)
	}
	switch f.Kind {
	case BrokerFreeze:
		err := do((*kafka.Broker).Freeze)
		time.Sleep(f.For)
		return errors.Join(err, do((*kafka.Broker).Thaw))
	case BrokerStop:
		if err := do((*kafka.Broker).Stop); err != nil {
			return err
		}
	case BrokerKill, TwoBrokers, Restart, Outage:
		if err := do((*kafka.Broker).Kill); err != nil {
			return err
		}
	default:
		return fmt.Errorf("no such kind: %s", f.Kind)
	}
	time.Sleep(f.For)
	return w.revive(ctx, victims...)
}

// victims are the brokers that a fault names.
func (w *world) victims(f Fault) []*kafka.Broker {
	if f.Victim == "brokers" {
		return w.Kafka.Brokers
	}
	var victims []*kafka.Broker
	for name := range strings.SplitSeq(f.Victim, "+") {
		for _, b := range w.Kafka.Brokers {
			if name == fmt.Sprintf("broker-%d", b.ID) {
				victims = append(victims, b)
			}
		}
	}
	return victims
}

// revive thaws brokers, and starts those that don't run, all at once: a quorum
// may need each other.
func (w *world) revive(ctx context.Context, bs ...*kafka.Broker) error {
	errs := make(chan error, len(bs))
	for _, b := range bs {
		go func() {
			if pid := b.PID(); pid != 0 {
				_ = syscall.Kill(pid, syscall.SIGCONT)
				errs <- nil
				return
			}
			errs <- b.Start(ctx)
		}()
	}
	var all []error
	for range bs {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

// port is the port of an address that we chose ourselves.
func port(addr string) int {
	_, text, _ := net.SplitHostPort(addr)
	n, _ := strconv.Atoi(text)
	return n
}
