// Command chaos runs whole systems of qstream, of real processes and real
// brokers, under load through many faults, and counts what became of every
// mail that was accepted:
//
//	go run ./test/chaos -broker kafka3 -faults 200 -seed 7
//
// It goes in rounds: each has a seed and a fresh system, and its schedule of
// faults is a function of the seed alone. A round passes if every accepted
// mail was delivered, or bounced where its destination refuses it, nothing was
// refused for good or expired without an attempt, no process panicked, and
// duplicates stay within their bound. Of one that fails everything is kept.
//
// It doesn't pull the power: what it kills are processes.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"qstream/test/rig"
)

// options are what the flags say.
type options struct {
	Shape
	seed     uint64
	round    int           // faults of one
	minutes  float64       // go on for so long instead of a number of faults
	from, to int           // of the schedule's faults, only these; 0: all
	rate     float64       // mails a second
	patience time.Duration // for the end of a round
	hasty    bool
	keep     bool
	plan     bool
}

func main() {
	var o options
	flag.StringVar(&o.Broker, "broker", "embedded", "embedded, kafka1 or kafka3")
	flag.IntVar(&o.Faults, "faults", 50, "how many in all")
	flag.Float64Var(&o.minutes, "minutes", 0, "go on for so long instead of a number of faults")
	flag.Uint64Var(&o.seed, "seed", 0, "of the first round; the next has the next (default: by the clock)")
	flag.IntVar(&o.round, "round", 100, "faults in a round")
	flag.IntVar(&o.from, "from", 0, "the first of the schedule's faults that is done, to find the one that matters")
	flag.IntVar(&o.to, "to", 0, "the last of them")
	flag.BoolVar(&o.Clean, "clean", false, "only clean stops, added replicas and rolling restarts: no duplicate is allowed")
	flag.Float64Var(&o.rate, "rate", 40, "mails a second")
	flag.DurationVar(&o.patience, "patience", 150*time.Second, "how long a mail may wait at the end before it counts as lost")
	flag.BoolVar(&o.hasty, "hasty", false, "after the last fault start deliver again, instead of waiting until it tries what it took for dead")
	flag.BoolVar(&o.keep, "keep", false, "keep the folder of a round that passed, too")
	flag.BoolVar(&o.plan, "plan", false, "only print the schedule")
	flag.Parse()
	if o.seed == 0 {
		o.seed = uint64(time.Now().Unix())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o, os.Stdout)
	stop()
	rig.Clean()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

// run goes from round to round, and sums up.
func run(ctx context.Context, o options, out io.Writer) error {
	if pace[o.Broker] == 0 || o.round < 1 {
		return fmt.Errorf("no broker %q, or no faults in a round", o.Broker)
	}
	if o.Disk = mountable(); !o.Disk && o.Broker == "embedded" {
		fmt.Fprintln(out, "SKIPPED: full disks (needs root and loop devices)")
	}
	var sum total
	failed := 0
	for end, left := time.Now().Add(time.Duration(o.minutes*float64(time.Minute))), o.Faults; ctx.Err() == nil; o.seed++ {
		r := o
		r.Faults = o.round
		if o.minutes == 0 {
			r.Faults = min(o.round, left)
			left -= r.Faults
		}
		if r.Faults <= 0 || o.minutes > 0 && time.Now().After(end) {
			break
		}
		passed, err := r.do(ctx, out, &sum)
		if err != nil {
			return err
		}
		if !passed {
			failed++
		}
	}
	fmt.Fprintf(out, "in all, %s: %s\n", o.Broker, sum)
	if failed > 0 {
		return fmt.Errorf("%d rounds failed", failed)
	}
	return ctx.Err()
}

// do does one round.
func (o options) do(ctx context.Context, out io.Writer, sum *total) (bool, error) {
	faults := Schedule(o.seed, o.Shape)
	if o.to > 0 {
		faults = faults[:min(o.to, len(faults))]
	}
	if o.from > 0 {
		faults = faults[min(o.from-1, len(faults)):]
	}
	if len(faults) == 0 {
		return false, fmt.Errorf("none of seed %d's %d faults are from %d to %d", o.seed, o.Faults, o.from, o.to)
	}
	fmt.Fprintf(out, "== %s, seed %d, faults %d to %d\n", o.Broker, o.seed, faults[0].N, faults[len(faults)-1].N)
	if o.plan {
		for _, f := range faults {
			fmt.Fprintln(out, f)
		}
		return true, nil
	}
	dir, err := os.MkdirTemp("", "qstream-chaos-")
	if err != nil {
		return false, err
	}
	w, err := open(o.Broker, dir, o.rate, o.Disk)
	if err != nil {
		fmt.Fprintf(out, "FAILED: to start, in %s: %v\n", dir, err)
		return false, nil
	}
	v, spans, err := w.round(ctx, faults, o, out)
	if err != nil {
		fmt.Fprintf(out, "FAILED: seed %d, in %s: %v\n", o.seed, dir, err)
		return false, errors.Join(record(dir, v, spans), w.close())
	}
	failures := v.failures(o.Clean)
	sum.add(v)
	fmt.Fprintf(out, "== seed %d: %s\n", o.seed, v)
	for _, f := range failures {
		fmt.Fprintln(out, "FAILED:", f)
	}
	w.explain(out, v)
	if err := w.close(); err != nil {
		return false, err
	}
	if len(failures) == 0 && !o.keep {
		return true, os.RemoveAll(dir)
	}
	fmt.Fprintf(out, "kept in %s; again: make chaos BROKER=%s SEED=%d FAULTS=%d\n", dir, o.Broker, o.seed, o.Faults)
	return len(failures) == 0, record(dir, v, spans)
}

// round inflicts the faults and judges.
func (w *world) round(ctx context.Context, faults []Fault, o options, out io.Writer) (Verdict, []span, error) {
	var mu sync.Mutex
	var spans []span
	began := func(f Fault) {
		mu.Lock()
		defer mu.Unlock()
		spans = append(spans, span{Fault: f, Began: time.Now()})
		fmt.Fprintf(out, "%s %4d/%d %s accepted %d, waiting %d\n", time.Now().Format("15:04:05.0"),
			f.N, faults[len(faults)-1].N, f, w.load.Accepted(), len(w.waiting()))
	}
	ended := func(f Fault) {
		mu.Lock()
		defer mu.Unlock()
		i := slices.IndexFunc(spans, func(s span) bool { return s.N == f.N })
		spans[i].Ended = time.Now()
	}
	stuck := w.run(ctx, faults, began, ended)
	if err := w.heal(ctx); err != nil {
		return Verdict{}, spans, err
	}
	time.Sleep(time.Second)
	w.source()
	if o.hasty {
		w.refresh()
	}
	w.drain(o.patience, out)
	v, err := w.judge(spans)
	v.Stuck = stuck
	return v, spans, err
}

// explain shows the traces of the first mails that went wrong.
func (w *world) explain(out io.Writer, v Verdict) {
	for _, some := range [][]string{v.Lost, v.Untried} {
		for _, lost := range some[:min(2, len(some))] {
			text, errs, err := w.Verb("trace", strings.Fields(lost)[1])
			fmt.Fprintf(out, "trace of %s: %v\n%s%s\n", lost, err, text, errs)
		}
	}
}

// record leaves the schedule as it was done, with the verdict, beside the
// data and logs.
func record(dir string, v Verdict, spans []span) error {
	text, err := json.MarshalIndent(map[string]any{"verdict": v, "faults": spans}, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "chaos.json"), text, 0o644)
}

// String is a fault as people read it.
func (f Fault) String() string {
	text := fmt.Sprintf("%-13s %-20s", f.Kind, f.Victim)
	if f.For > 0 {
		text += " " + f.For.String()
	}
	if f.Arg != "" {
		text += " " + f.Arg
	}
	return fmt.Sprintf("%-60s", text)
}

// String is a verdict as people read it.
func (v Verdict) String() string {
	text := fmt.Sprintf("faults %d, accepted %d, delivered %d, bounced %d, lost %d, expired untried %d, duplicates %d",
		v.Faults, v.Accepted, v.Delivered, v.Bounced, len(v.Lost), len(v.Untried), v.duplicates())
	for _, kind := range slices.Sorted(maps.Keys(v.Duplicates)) {
		text += fmt.Sprintf(" (%s %d)", kind, v.Duplicates[kind])
	}
	if v.Reports > 0 {
		text += fmt.Sprintf(", DSNs repeated %d", v.Reports)
	}
	for _, name := range slices.Sorted(maps.Keys(v.Fallen)) {
		text += fmt.Sprintf(", %s ended by itself %d times", name, v.Fallen[name])
	}
	return text
}

// total is the sum over rounds.
type total struct{ faults, accepted, lost, untried, wrong, duplicates int }

func (t *total) add(v Verdict) {
	t.faults += v.Faults
	t.accepted += v.Accepted
	t.lost += len(v.Lost)
	t.untried += len(v.Untried)
	t.wrong += len(v.Wrong)
	t.duplicates += v.duplicates()
}

func (t total) String() string {
	return fmt.Sprintf("faults %d, accepted %d, lost %d, expired untried %d, bounced without reason %d, duplicates %d (%.0f per million)",
		t.faults, t.accepted, t.lost, t.untried, t.wrong, t.duplicates, 1e6*float64(t.duplicates)/float64(max(1, t.accepted)))
}
