package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"qstream/bus/bustest"
	"qstream/test/link"
)

// restarted is how long a fault waits for its victim to be ready again before
// the next may come. It is no bound on anything: brokers may be away.
const restarted = 10 * time.Second

// inflict does one fault and returns when it is over.
func (w *world) inflict(ctx context.Context, f Fault) error {
	switch f.Kind {
	case Kill:
		return w.again(f.Victim, syscall.SIGKILL)
	case Stop:
		return w.again(f.Victim, syscall.SIGTERM)
	case Failpoint:
		return w.failAt(f)
	case Freeze:
		return w.freeze(f)
	case Clock:
		return w.changed(f, "QSTREAM_CLOCK_OFFSET="+f.Arg)
	case SlowSync:
		return w.changed(f, "QSTREAM_SLOW_SYNC="+f.Arg)
	case Replica:
		return w.replica(f)
	case Rolling:
		for _, name := range processes(w.Broker) {
			if err := w.again(name, syscall.SIGTERM); err != nil {
				return err
			}
		}
		return nil
	case Cut:
		return w.trouble(f, link.Trouble{Silent: true})
	case Reset:
		return w.trouble(f, link.Trouble{Reset: true})
	case Isolate:
		return w.trouble(f, link.Trouble{Silent: true})
	case Delay:
		d, err := time.ParseDuration(f.Arg)
		if err != nil {
			return err
		}
		return w.trouble(f, link.Trouble{Delay: d})
	case DiskFull:
		free, err := w.disk.fill()
		if err != nil {
			return err
		}
		time.Sleep(f.For)
		return free()
	case Outage:
		if w.Kafka == nil {
			return w.away(f)
		}
	case Leaders:
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		_, err := bustest.MoveLeaders(ctx, w.Kafka.Seeds())
		return err
	}
	return w.brokers(ctx, f)
}

// again ends a process and waits for its successor.
func (w *world) again(name string, sig syscall.Signal) error {
	if err := w.end(name, sig); err != nil {
		return err
	}
	time.Sleep(200 * time.Millisecond) // the keeper's look
	w.settled(name, restarted)
	return nil
}

// failAt starts a process that kills itself at a failpoint; where it doesn't
// come by in time, it is killed.
func (w *world) failAt(f Fault) error {
	w.release(f.Victim)
	if err := w.Signal(f.Victim, syscall.SIGKILL); err != nil {
		return err
	}
	w.SetEnv(f.Victim, "QSTREAM_FAILPOINT="+f.Arg)
	if err := w.Launch(f.Victim); err != nil {
		return err
	}
	w.SetEnv(f.Victim)
	p := w.Process(f.Victim)
	w.fell(f.Victim)
	w.want(f.Victim)
	if p.Ended(f.For) {
		w.settled(f.Victim, restarted)
		return nil
	}
	return w.again(f.Victim, syscall.SIGKILL)
}

func (w *world) freeze(f Fault) error {
	if err := w.Signal(f.Victim, syscall.SIGSTOP); err != nil {
		return err
	}
	time.Sleep(f.For)
	return w.Signal(f.Victim, syscall.SIGCONT)
}

// changed runs a process with another environment for a while. It is stopped
// cleanly before and after.
func (w *world) changed(f Fault, env string) error {
	w.SetEnv(f.Victim, env)
	if err := w.again(f.Victim, syscall.SIGTERM); err != nil {
		w.SetEnv(f.Victim)
		return err
	}
	time.Sleep(f.For)
	w.SetEnv(f.Victim)
	return w.again(f.Victim, syscall.SIGTERM)
}

// replica adds a process to a role for a while.
func (w *world) replica(f Fault) error {
	w.mu.Lock()
	w.extra++
	name := fmt.Sprintf("%s-extra-%d", f.Victim, w.extra)
	w.mu.Unlock()
	if err := w.Role(f.Victim, name, nil); err != nil {
		fmt.Fprintf(os.Stderr, "chaos: %s found no place: %v\n", name, strings.SplitN(err.Error(), "\n", 2)[0])
	} else {
		time.Sleep(f.For)
	}
	err := w.Signal(name, syscall.SIGTERM)
	w.Forget(name)
	return err
}

// away holds the process with the embedded broker down.
func (w *world) away(f Fault) error {
	w.release("up")
	err := w.Signal("up", syscall.SIGKILL)
	time.Sleep(f.For)
	w.fell("up")
	w.want("up")
	w.settled("up", restarted)
	return err
}

// trouble is on the ways of a fault for its time.
func (w *world) trouble(f Fault, t link.Trouble) error {
	ways := w.ways(f)
	for _, way := range ways {
		w.net.Set(way[0], way[1], t)
	}
	time.Sleep(f.For)
	for _, way := range ways {
		w.net.Set(way[0], way[1], link.Trouble{})
	}
	return nil
}

// ways are those that a fault is on, each from who dials to who is dialled.
// Brokers dial each other, as brokers and as controllers.
func (w *world) ways(f Fault) (ways [][2]string) {
	controller := func(broker string) string { return strings.Replace(broker, "broker", "controller", 1) }
	both := func(a, b string) {
		ways = append(ways, [][2]string{{a, b}, {a, controller(b)}, {b, a}, {b, controller(a)}}...)
	}
	if f.Kind == Isolate {
		for i := range brokers(w.Broker) {
			if other := fmt.Sprintf("broker-%d", i+1); other != f.Victim {
				both(f.Victim, other)
			}
		}
		for _, name := range processes(w.Broker) {
			ways = append(ways, [2]string{name, f.Victim})
		}
		return ways
	}
	from, to, _ := strings.Cut(f.Victim, ">")
	if strings.HasPrefix(from, "broker-") {
		both(from, to)
		return ways
	}
	return [][2]string{{from, to}}
}

// claims are what a fault needs for itself: two on one of these don't overlap.
func claims(f Fault, broker string) []string {
	switch {
	case f.Kind == Replica || f.Kind == Leaders:
		return nil
	case f.Kind == Rolling || f.Kind == Outage && broker == "embedded":
		return processes(broker)
	case f.Victim == "brokers":
		var all []string
		for i := range brokers(broker) {
			all = append(all, fmt.Sprintf("broker-%d", i+1))
		}
		return all
	}
	return strings.Split(f.Victim, "+")
}

// breath is how long the next fault waits at most for the edge to accept mail
// again after the last one: faults that hit a system that is down for good
// show nothing, but some have to hit one that just comes up.
var breath = map[string]time.Duration{"embedded": 3 * time.Second, "kafka1": 15 * time.Second, "kafka3": 20 * time.Second}

// breathe waits until a mail has been accepted, for a bounded time.
func (w *world) breathe() {
	before := w.load.Accepted()
	for end := time.Now().Add(breath[w.Broker]); time.Now().Before(end) && w.load.Accepted() == before; {
		time.Sleep(50 * time.Millisecond)
	}
}

// errStuck is wrapped by what doesn't end as it should.
var errStuck = errors.New("a fault could not be done")

// overlap is how many faults are under way at most.
const overlap = 3

// run inflicts the faults in order, each at its moment or when what it needs
// is free, and returns when all are over. began and ended are told of each.
func (w *world) run(ctx context.Context, faults []Fault, began, ended func(Fault)) error {
	type report struct {
		fault Fault
		err   error
	}
	done := make(chan report)
	taken := map[string]bool{}
	under := 0
	var errs []error
	await := func() {
		r := <-done
		under--
		for _, c := range claims(r.fault, w.Broker) {
			delete(taken, c)
		}
		ended(r.fault)
		if r.err != nil {
			errs = append(errs, fmt.Errorf("%w: %d %s %s: %w", errStuck, r.fault.N, r.fault.Kind, r.fault.Victim, r.err))
		}
	}
	start, slip := time.Now(), time.Duration(0)
	for _, f := range faults {
		if ctx.Err() != nil {
			break
		}
		if late := time.Since(start.Add(f.At + slip)); late < 0 {
			time.Sleep(-late)
		} else {
			slip += late // keep the distances
		}
		w.breathe()
		need := claims(f, w.Broker)
		for under >= overlap || slices.ContainsFunc(need, func(c string) bool { return taken[c] }) {
			await()
		}
		for _, c := range need {
			taken[c] = true
		}
		under++
		w.troubleMail()
		began(f)
		go func() { done <- report{f, w.inflict(ctx, f)} }()
	}
	for under > 0 {
		await()
	}
	return errors.Join(errs...)
}
