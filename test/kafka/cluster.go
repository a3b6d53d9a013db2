// Package kafka runs Apache Kafka on loopback for tests: one or three KRaft
// brokers as child processes, which tests may kill, freeze and restart.
//
// Guarantee: Start returns when every broker has reported itself started.
// Guarantee: the brokers die with the process that started them.
//
// It is no client: what it says about the brokers it reads from their output.
package kafka

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"qstream/test/port"
)

// Options are a cluster's. The zero Options are one broker in a temporary
// folder.
type Options struct {
	Brokers int      // default 1; three replicate everything and want two in sync
	Dir     string   // data and logs; default a temporary folder that Stop removes
	Heap    string   // of each broker, as in -Xmx; default "384m"
	Extra   []string // further lines of server.properties
	// Front gives the address under which others are to know a broker's
	// listener, "broker-1" or "controller-1", such as a proxy's; nil: its own.
	Front func(name, addr string) (string, error)
}

// Cluster is some running brokers. Its methods are not safe for concurrent
// use; those of different brokers are.
type Cluster struct {
	Brokers []*Broker
	dir     string
	remove  bool
}

// Start installs Kafka if need be and starts the brokers. It returns when
// all of them serve, which takes some seconds.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	if o.Brokers == 0 {
		o.Brokers = 1
	}
	if o.Heap == "" {
		o.Heap = "384m"
	}
	libs, err := Install(ctx)
	if err != nil {
		return nil, err
	}
	c := &Cluster{dir: o.Dir, remove: o.Dir == ""}
	if c.remove {
		if c.dir, err = os.MkdirTemp("", "qstream-kafka-"); err != nil {
			return nil, err
		}
	}
	if err := c.prepare(ctx, libs, o); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	if err := c.each(func(b *Broker) error { return b.Start(ctx) }); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

// Seeds are the addresses, host:port, under which the brokers are known.
func (c *Cluster) Seeds() []string {
	seeds := make([]string, len(c.Brokers))
	for i, b := range c.Brokers {
		seeds[i] = b.Front
	}
	return seeds
}

// Stop kills all brokers: what they wrote is the kernel's, and lasts without
// them. Asked to shut down, those that lose their quorum to one another's haste
// would stay for minutes.
func (c *Cluster) Stop() error {
	err := c.each((*Broker).Kill)
	if c.remove {
		err = errors.Join(err, os.RemoveAll(c.dir))
	}
	return err
}

// each calls f for all brokers at once.
func (c *Cluster) each(f func(*Broker) error) error {
	errs := make(chan error, len(c.Brokers))
	for _, b := range c.Brokers {
		go func() { errs <- f(b) }()
	}
	var all []error
	for range c.Brokers {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

// prepare chooses ports, writes each broker's settings and formats its
// storage, unless the folder holds a cluster already.
func (c *Cluster) prepare(ctx context.Context, libs string, o Options) error {
	var ports []int
	for range 2 * o.Brokers {
		p, err := port.Free()
		if err != nil {
			return err
		}
		ports = append(ports, p)
	}
	if o.Front == nil {
		o.Front = func(_, addr string) (string, error) { return addr, nil }
	}
	var voters []string
	for i := range o.Brokers {
		front, err := o.Front(fmt.Sprintf("controller-%d", i+1), fmt.Sprintf("127.0.0.1:%d", ports[2*i+1]))
		if err != nil {
			return err
		}
		voters = append(voters, fmt.Sprintf("%d@%s", i+1, front))
	}
	for i := range o.Brokers {
		dir := filepath.Join(c.dir, fmt.Sprintf("broker-%d", i+1))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		b := &Broker{ID: i + 1, Addr: fmt.Sprintf("127.0.0.1:%d", ports[2*i]), dir: dir, libs: libs, heap: o.Heap}
		var err error
		if b.Front, err = o.Front(fmt.Sprintf("broker-%d", i+1), b.Addr); err != nil {
			return err
		}
		text := properties(b, ports[2*i+1], strings.Join(voters, ","), o)
		if err := os.WriteFile(b.file("server.properties"), []byte(text), 0o644); err != nil {
			return err
		}
		if err := os.WriteFile(b.file("log4j2.properties"), []byte(logging), 0o644); err != nil {
			return err
		}
		c.Brokers = append(c.Brokers, b)
	}
	return c.each(func(b *Broker) error { return b.format(ctx) })
}

func (b *Broker) format(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "java", b.java("kafka.tools.StorageTool", "format",
		"--ignore-formatted", "-t", clusterID, "-c", b.file("server.properties"))...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("format storage of broker %d: %w\n%s", b.ID, err, out)
	}
	return nil
}

// within bounds how long a broker may take to start or stop.
const within = 4 * time.Minute
