package peer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"qstream/test/kafka"
	"qstream/test/rig"
)

// Brokers that a qstream may stand on.
const (
	Embedded = "embedded"
	Kafka1   = "kafka1" // one Apache Kafka
	Kafka3   = "kafka3" // three, two in sync
)

// QStream is a qstream under measurement.
type QStream struct {
	Site   Site
	Broker string // default Embedded
	// Synced lets each Kafka broker flush a received record to its disk before
	// it acknowledges, as `topics create --synced` does; the embedded broker
	// always does.
	Synced bool
	Flags  []string // further ones of `qstream up`
	Env    []string // of its process, beside this one's

	dir    string
	system *rig.System
	own    *group
	others *group // of the Kafka brokers
}

// Name is "qstream embedded", "qstream kafka1 synced" and so on.
func (q *QStream) Name() string {
	name := "qstream " + q.broker()
	if q.Synced && q.broker() != Embedded {
		name += " synced"
	}
	if q.Site.Scan {
		name += " scan"
	}
	return name
}

func (q *QStream) broker() string {
	if q.Broker == "" {
		return Embedded
	}
	return q.Broker
}

// Addr is where it takes SMTP.
func (q *QStream) Addr() string { return q.system.SMTP }

// HTTP is where it serves metrics and profiles.
func (q *QStream) HTTP() string { return q.system.Procs["up"].HTTP }

// Start builds the binary the first time, starts the broker and `up`.
func (q *QStream) Start(ctx context.Context) error {
	if err := q.start(ctx); err != nil {
		return errors.Join(fmt.Errorf("start %s: %w", q.Name(), err), q.Stop())
	}
	return nil
}

func (q *QStream) start(ctx context.Context) (err error) {
	if q.dir, err = workDir("qstream"); err != nil {
		return err
	}
	if q.own, err = newGroup(); err != nil {
		return err
	}
	if q.system, err = rig.New(q.broker(), q.dir); err != nil {
		return err
	}
	q.system.Env = q.Env
	if q.broker() != Embedded {
		if err := q.startKafka(ctx); err != nil {
			return err
		}
	}
	site := filepath.Join(q.dir, "site.yaml")
	if err := os.WriteFile(site, []byte(q.Site.documents()), 0o644); err != nil {
		return err
	}
	if err := q.system.Up(site, q.Flags...); err != nil {
		return err
	}
	return q.own.add(q.system.Procs["up"].PID())
}

func (q *QStream) startKafka(ctx context.Context) (err error) {
	if q.others, err = newGroup(); err != nil {
		return err
	}
	n := 1
	if q.broker() == Kafka3 {
		n = 3
	}
	q.system.Kafka, err = kafka.Start(ctx, kafka.Options{Brokers: n, Dir: filepath.Join(q.dir, "kafka"), Heap: "1g"})
	if err != nil {
		return err
	}
	for _, b := range q.system.Kafka.Brokers {
		if err := q.others.add(b.PID()); err != nil {
			return err
		}
	}
	if !q.Synced {
		return nil
	}
	if out, errs, err := q.system.Verb("topics", "create", "--synced"); err != nil {
		return fmt.Errorf("topics create: %w: %s%s", err, out, errs)
	}
	return nil
}

// Stop ends it and removes its data. The data are gone anyway: a process
// that doesn't end in time is killed without complaint.
func (q *QStream) Stop() error {
	if q.system != nil {
		if p := q.system.Procs["up"]; p != nil {
			_ = q.system.Signal("up", syscall.SIGINT)
			q.system.Ended("up", 2*time.Second)
		}
		q.system.Close()
	}
	var errs []error
	for _, g := range []*group{q.own, q.others} {
		if g != nil {
			errs = append(errs, g.close())
		}
	}
	errs = append(errs, os.RemoveAll(q.dir))
	q.system, q.own, q.others, q.dir = nil, nil, nil, ""
	return errors.Join(errs...)
}

// Usage is what it has used since its start, its broker apart.
func (q *QStream) Usage() (u Usage, err error) {
	if u.CPU, err = q.own.cpu(); err != nil {
		return u, err
	}
	u.Memory = q.own.peak.Load()
	if q.others != nil {
		u.BrokerMemory = q.others.peak.Load()
		u.BrokerCPU, err = q.others.cpu()
	}
	return u, err
}

// Log is the end of its log.
func (q *QStream) Log() string { return q.system.LogTail("up") }
