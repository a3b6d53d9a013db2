package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Kind is what is done to a victim.
type Kind string

// The kinds of faults. Those of processes say "process", which is any of the
// system's: up, or one role.
const (
	Kill      Kind = "kill"      // SIGKILL of a process, which is started again
	Stop      Kind = "stop"      // SIGTERM of a process, which is started again
	Failpoint Kind = "failpoint" // a process kills itself at an exact moment
	Freeze    Kind = "freeze"    // SIGSTOP of a process for a while
	Clock     Kind = "clock"     // a process runs with a wrong clock for a while
	Replica   Kind = "replica"   // a process is added to a role and taken away
	Rolling   Kind = "rolling"   // every process is stopped and started, one by one

	Cut   Kind = "cut"   // nothing gets through between two parties
	Reset Kind = "reset" // connections between two parties break, new ones are refused
	Delay Kind = "delay" // the way between two parties is slow

	DiskFull Kind = "disk-full" // under the embedded broker
	SlowSync Kind = "slow-sync" // each flush of the embedded broker takes long

	BrokerKill   Kind = "broker-kill"   // SIGKILL, then started again
	BrokerStop   Kind = "broker-stop"   // SIGTERM, then started again
	BrokerFreeze Kind = "broker-freeze" // SIGSTOP for a while
	TwoBrokers   Kind = "two-brokers"   // two are killed, and started again together
	Isolate      Kind = "isolate"       // nothing gets through to or from a broker
	Leaders      Kind = "leaders"       // every partition gets another leader
	Restart      Kind = "restart-all"   // all brokers are killed and started again
	Outage       Kind = "outage"        // all brokers are away longer than the short lifetime
)

// Fault is one row of a schedule.
type Fault struct {
	N      int           // from 1
	At     time.Duration // since the first mail; faults may begin later, never sooner
	Kind   Kind
	Victim string        // a process, a broker, or "from>to"
	For    time.Duration // how long it lasts, where its kind lasts
	Arg    string        // failpoint, clock offset or length of a delay
}

// Shape is what a schedule depends on beside its seed.
type Shape struct {
	Broker string // embedded, kafka1 or kafka3
	Faults int
	Clean  bool // only what must make no duplicates: stops, replicas, rolling restarts
	Disk   bool // disks may be filled
}

// choice is a kind with its weight and the brokers it is for.
type choice struct {
	kind    Kind
	weight  int
	brokers string
}

var choices = []choice{
	{Kill, 18, "embedded kafka1 kafka3"},
	{Failpoint, 14, "embedded kafka1 kafka3"},
	{Stop, 8, "embedded kafka1 kafka3"},
	{Freeze, 8, "embedded kafka1 kafka3"},
	{Clock, 5, "embedded kafka1 kafka3"},
	{Cut, 9, "embedded kafka1 kafka3"},
	{Reset, 7, "embedded kafka1 kafka3"},
	{Delay, 7, "embedded kafka1 kafka3"},
	{Outage, 2, "embedded kafka1 kafka3"},
	{DiskFull, 5, "embedded"},
	{SlowSync, 6, "embedded"},
	{Replica, 6, "kafka1 kafka3"},
	{Rolling, 1, "kafka1 kafka3"},
	{BrokerKill, 6, "kafka1 kafka3"},
	{BrokerStop, 3, "kafka1 kafka3"},
	{BrokerFreeze, 5, "kafka1 kafka3"},
	{TwoBrokers, 3, "kafka3"},
	{Isolate, 4, "kafka3"},
	{Leaders, 6, "kafka3"},
	{Restart, 2, "kafka3"},
}

// clean are the kinds that must make no duplicates at all.
var clean = []Kind{Stop, Replica, Rolling}

// pace is the mean time from one fault to the next.
var pace = map[string]time.Duration{
	"embedded": 700 * time.Millisecond, "kafka1": 2500 * time.Millisecond, "kafka3": 3 * time.Second,
}

// failpoints are the moments at which a role can kill itself.
var failpoints = map[string][]string{
	"ingest":  strings.Fields("publish.before publish.after ingest.reply.before"),
	"router":  strings.Fields("txn.begin txn.produced txn.barrier txn.offsets txn.ended"),
	"scanner": strings.Fields("txn.begin txn.produced txn.barrier txn.offsets txn.ended"),
	"deliver": strings.Fields("txn.begin txn.produced txn.barrier txn.offsets txn.ended journal.before journal.after deliver.dot.before deliver.dot.after"),
	"delay":   strings.Fields("txn.begin txn.produced txn.barrier txn.offsets txn.ended hold.released"),
}

// Schedule is the faults of a seed: the same for the same seed and shape, and
// with more faults the same ones first.
func Schedule(seed uint64, s Shape) []Fault {
	r := &roll{rand.New(rand.NewPCG(seed, 0x716d71)), s}
	faults := make([]Fault, s.Faults)
	at := time.Duration(0)
	for i := range faults {
		at += time.Duration(r.ExpFloat64() * float64(pace[s.Broker]))
		faults[i] = r.fault(r.kind())
		faults[i].N, faults[i].At = i+1, at.Round(time.Millisecond)
	}
	return faults
}

// roll draws what faults are made of.
type roll struct {
	*rand.Rand
	Shape
}

func (r *roll) kind() Kind {
	total := 0
	var fit []choice
	for _, c := range choices {
		if slices.Contains(strings.Fields(c.brokers), r.Broker) && (!r.Clean || slices.Contains(clean, c.kind)) && (r.Disk || c.kind != DiskFull) {
			fit = append(fit, c)
			total += c.weight
		}
	}
	n := r.IntN(total)
	for _, c := range fit {
		if n -= c.weight; n < 0 {
			return c.kind
		}
	}
	panic("weights don't add up")
}

func (r *roll) fault(k Kind) Fault {
	f := Fault{Kind: k}
	switch k {
	case Kill, Stop:
		f.Victim = r.process()
	case Failpoint:
		f.Victim = r.stage()
		role, _, _ := strings.Cut(f.Victim, "-")
		if role == "up" {
			role = pick(r, []string{"ingest", "router", "deliver", "delay"})
		}
		f.Arg, f.For = fmt.Sprintf("%s:%d", pick(r, failpoints[role]), 1+r.IntN(15)), 3*time.Second
	case Freeze:
		f.Victim, f.For = r.process(), r.between(time.Second, 15*time.Second)
	case Clock:
		f.Victim, f.For = r.process(), r.between(time.Second, 6*time.Second)
		f.Arg = r.offset()
	case Replica:
		f.Victim, f.For = pick(r, []string{"router", "deliver"}), r.between(2*time.Second, 10*time.Second)
	case Cut, Reset:
		f.Victim, f.For = r.way(), r.between(500*time.Millisecond, 15*time.Second)
	case Delay:
		f.Victim, f.For = r.way(), r.between(time.Second, 10*time.Second)
		f.Arg = r.between(10*time.Millisecond, 600*time.Millisecond).String()
	case SlowSync:
		f.Victim, f.For = "up", r.between(2*time.Second, 6*time.Second)
		f.Arg = r.between(50*time.Millisecond, 800*time.Millisecond).String()
	case DiskFull:
		f.Victim, f.For = "disk", r.between(500*time.Millisecond, 5*time.Second)
	case BrokerKill, BrokerStop:
		f.Victim, f.For = r.broker(), r.between(100*time.Millisecond, 12*time.Second)
	case BrokerFreeze, Isolate:
		f.Victim, f.For = r.broker(), r.between(time.Second, 15*time.Second)
	case TwoBrokers:
		spared := r.IntN(3)
		var two []string
		for i := range 3 {
			if i != spared {
				two = append(two, fmt.Sprintf("broker-%d", i+1))
			}
		}
		f.Victim, f.For = strings.Join(two, "+"), r.between(100*time.Millisecond, 10*time.Second)
	case Restart:
		f.Victim, f.For = "brokers", r.between(100*time.Millisecond, 3*time.Second)
	case Outage:
		f.Victim, f.For = "brokers", shortLifetime+r.between(time.Second, 4*time.Second)
	case Leaders:
		f.Victim = "brokers"
	case Rolling:
		f.Victim = "roles"
	}
	return f
}

// between is a time in a range; most are near its lower end, so that there is
// time for many.
func (r *roll) between(low, high time.Duration) time.Duration {
	u := r.Float64()
	return (low + time.Duration(u*u*u*u*u*float64(high-low))).Round(10 * time.Millisecond)
}

// offset is how wrong a clock is. The embedded broker has the clock of its
// process, so that a long step would truly expire mail.
func (r *roll) offset() string {
	if r.Broker == "embedded" {
		return pick(r, []string{"-20s", "-5s", "5s", "20s"})
	}
	return pick(r, []string{"-240h", "-20s", "20s", "240h"})
}

// processes are what is killed and stopped.
func processes(broker string) []string {
	if broker == "embedded" {
		return []string{"up"}
	}
	return append(stages(broker), "ledger")
}

// stages are the processes that mail goes through.
func stages(broker string) []string {
	if broker == "embedded" {
		return []string{"up"}
	}
	return []string{"ingest", "router", "router-2", "scanner", "deliver", "deliver-2", "delay"}
}

func (r *roll) process() string { return pick(r, processes(r.Broker)) }
func (r *roll) stage() string   { return pick(r, stages(r.Broker)) }

func brokers(broker string) int {
	return map[string]int{"kafka1": 1, "kafka3": 3}[broker]
}

func (r *roll) broker() string { return fmt.Sprintf("broker-%d", 1+r.IntN(brokers(r.Broker))) }

// way is two parties that speak with each other.
func (r *roll) way() string {
	if r.Broker == "embedded" {
		return pick(r, []string{"source>edge", "up>sink", "up>sink"})
	}
	switch n := r.IntN(10); {
	case n == 0:
		return "source>edge"
	case n < 3:
		return pick(r, []string{"deliver", "deliver-2"}) + ">sink"
	case n < 5 && r.Broker == "kafka3":
		a := r.IntN(3)
		return fmt.Sprintf("broker-%d>broker-%d", 1+a, 1+(a+1+r.IntN(2))%3)
	}
	return r.process() + ">" + r.broker()
}

func pick(r *roll, from []string) string { return from[r.IntN(len(from))] }
