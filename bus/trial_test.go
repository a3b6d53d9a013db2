package bus

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"qstream/test/lanes"
)

// Trials with processes that are killed, frozen, added and stopped. A worker
// is this test binary; each writes what it did into a file of its own:
//
//	s PARTITION OFFSET NANOS  an execution started
//	f PARTITION OFFSET NANOS  its effect took place
//	a PARTITION OFFSET NANOS  the mark was acknowledged
//	m PARTITION OFFSET NANOS  it came back with its mark: not executed

func TestMain(m *testing.M) {
	if os.Getenv("QSTREAM_TRIAL_LOG") != "" {
		trialWorker()
		return
	}
	lanes.Open(8)
	goleak.VerifyTestMain(m)
}

func trialWorker() {
	log, err := os.OpenFile(os.Getenv("QSTREAM_TRIAL_LOG"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	b, err := Dial(Config{
		Seeds: strings.Split(os.Getenv("QSTREAM_TRIAL_SEEDS"), ","),
		Log:   slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { // the parent closes our input to stop us
		_, _ = os.Stdin.Read(make([]byte, 1))
		cancel()
	}()
	out := os.Getenv("QSTREAM_TRIAL_OUT")
	say := func(what string, j *Job) {
		fmt.Fprintf(log, "%s %d %d %d\n", what, j.Record.Partition, j.Record.Offset, time.Now().UnixNano())
	}
	take := func(j *Job) {
		go func() {
			ctx, ok := j.Begin(context.Background())
			if !ok {
				return
			}
			if len(j.Marks()) > 0 {
				say("m", j)
			} else {
				say("s", j)
				select {
				case <-time.After(trialDelay()):
				case <-ctx.Done():
					j.Abandon()
					return
				}
				say("f", j)
				if j.Mark(context.Background(), []byte("250")) == nil {
					say("a", j)
				}
			}
			j.Finish(Record{Topic: out, Partition: AnyPartition, Key: j.Record.Key, Value: j.Record.Value})
		}()
	}
	err = b.Work(ctx, WorkConfig{Group: os.Getenv("QSTREAM_TRIAL_GROUP"), From: NewTopics(os.Getenv("QSTREAM_TRIAL_IN"))}, take)
	if err != nil {
		panic(err)
	}
	b.Close()
}

// trialDelay is most often short, sometimes long.
func trialDelay() time.Duration {
	switch n := rand.IntN(100); {
	case n < 80:
		return time.Duration(1+rand.IntN(100)) * time.Millisecond
	case n < 97:
		return time.Duration(100+rand.IntN(400)) * time.Millisecond
	default:
		return time.Duration(500+rand.IntN(1500)) * time.Millisecond
	}
}

// trial is a group of worker processes on one topic.
type trial struct {
	*rig
	b              *Bus
	group, in, out string
	dir            string
	workers        []*trialProcess
	put            int
}

type trialProcess struct {
	cmd   *exec.Cmd
	stdin interface{ Close() error }
	log   string
	done  chan struct{}
	woken int64 // Unix nanoseconds of its last thaw
}

func newTrial(t *testing.T) *trial {
	r := newRig(t)
	group := "g." + r.name
	return &trial{rig: r, b: r.bus(), group: group, in: r.topic(group, "in", 8), out: r.topic("", "out", 4), dir: t.TempDir()}
}

func (tr *trial) start() *trialProcess {
	tr.t.Helper()
	p := &trialProcess{log: filepath.Join(tr.dir, fmt.Sprintf("%d.log", len(tr.workers))), done: make(chan struct{})}
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), "QSTREAM_TRIAL_LOG="+p.log, "QSTREAM_TRIAL_SEEDS="+strings.Join(tr.seeds, ","),
		"QSTREAM_TRIAL_GROUP="+tr.group, "QSTREAM_TRIAL_IN="+tr.in, "QSTREAM_TRIAL_OUT="+tr.out)
	if os.Getenv("QSTREAM_TEST_LOG") != "" {
		p.cmd.Stderr = os.Stderr
	}
	in, err := p.cmd.StdinPipe()
	if err != nil {
		tr.t.Fatal(err)
	}
	p.stdin = in
	if err := p.cmd.Start(); err != nil {
		tr.t.Fatal(err)
	}
	go func() { _ = p.cmd.Wait(); close(p.done) }()
	tr.t.Cleanup(func() { _ = p.cmd.Process.Kill(); <-p.done })
	tr.workers = append(tr.workers, p)
	return p
}

func (p *trialProcess) kill() { _ = p.cmd.Process.Kill(); <-p.done }

func (p *trialProcess) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

func (p *trialProcess) stop() { _ = p.stdin.Close() }

// load publishes at a rate for a while.
func (tr *trial) load(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		tr.rig.put(tr.b, tr.in, tr.put, 20)
		tr.put += 20
	}
}

// outcome is what the workers' files tell.
type outcome struct {
	executed   int // executions
	inFlight   int // repeated, though the first had no effect
	unrecorded int // repeated, though the first had its effect: a duplicate
	recorded   int // repeated, though its mark was acknowledged
	zombie     int // started by a process after its thaw, though another had started it
}

type execution struct {
	started, finished, marked int64
	by                        *trialProcess
}

func (tr *trial) outcome() (o outcome) {
	all := map[string][]*execution{}
	for _, p := range tr.workers {
		mine := map[string]*execution{}
		f, err := os.Open(p.log)
		if err != nil {
			continue
		}
		for s := bufio.NewScanner(f); s.Scan(); {
			var what string
			var partition, offset, at int64
			if n, _ := fmt.Sscan(s.Text(), &what, &partition, &offset, &at); n < 4 {
				continue
			}
			key := fmt.Sprint(partition, "/", offset)
			switch what {
			case "s":
				mine[key] = &execution{started: at, by: p}
				all[key] = append(all[key], mine[key])
				o.executed++
			case "f":
				mine[key].finished = at
			case "a":
				mine[key].marked = at
			}
		}
		_ = f.Close()
	}
	for _, es := range all {
		o.count(es)
	}
	return o
}

func (o *outcome) count(es []*execution) {
	for _, e := range es {
		for _, before := range es {
			if before == e || before.started >= e.started {
				continue
			}
			switch {
			case before.marked > 0 && before.marked < e.started:
				o.recorded++
			case before.finished > 0:
				o.unrecorded++
			default:
				o.inFlight++
			}
			if e.by.woken > 0 && e.started >= e.by.woken && before.by != e.by {
				o.zombie++
			}
		}
	}
}

// check wants every output once, and no repetition of what was marked.
func (tr *trial) check() outcome {
	tr.t.Helper()
	tr.t.Cleanup(func() {
		if tr.t.Failed() {
			tr.explain()
		}
	})
	tr.wantOnce(tr.b, tr.out, tr.put)
	o := tr.outcome()
	tr.t.Logf("%d records, %d executed; repeated: %d in flight, %d finished and not recorded, %d recorded, %d by the woken",
		tr.put, o.executed, o.inFlight, o.unrecorded, o.recorded, o.zombie)
	if o.recorded > 0 {
		tr.t.Errorf("%d executions repeated although they were marked", o.recorded)
	}
	return o
}

// explain tells what hangs: commits, and the stacks of the workers.
func (tr *trial) explain() {
	lag, err := tr.b.Lag(context.Background(), tr.group, []string{tr.in})
	tr.t.Logf("lag %v, %v", lag, err)
	for _, p := range tr.workers {
		p.signal(syscall.SIGQUIT)
	}
	time.Sleep(time.Second)
}

func trialRounds(short, long int) int {
	if os.Getenv("QSTREAM_TEST_LONG") != "" {
		return long
	}
	return short
}

func TestTrialKills(t *testing.T) {
	t.Parallel()
	tr := newTrial(t)
	tr.start()
	tr.start()
	for range trialRounds(1, 5) {
		tr.load(1500 * time.Millisecond)
		p := tr.workers[len(tr.workers)-1]
		tr.start()
		p.kill()
		tr.load(time.Second)
	}
	tr.check()
}

func TestTrialJoinsAndLeaves(t *testing.T) {
	tr := newTrial(t)
	tr.start()
	for range trialRounds(2, 6) {
		tr.start()
		tr.load(time.Second)
		tr.workers[len(tr.workers)-2].stop()
		tr.load(time.Second)
	}
	if o := tr.check(); o.inFlight+o.unrecorded > 0 {
		t.Errorf("executions repeated without a kill: %+v", o)
	}
}

// A process that wakes up begins nothing before it has heard from the group.
func TestTrialFrozen(t *testing.T) {
	if os.Getenv("QSTREAM_TEST_LONG") == "" {
		t.Skip("takes longer than the session timeout; QSTREAM_TEST_LONG=1 runs it")
	}
	tr := newTrial(t)
	tr.start()
	p := tr.start()
	tr.load(4 * time.Second)
	p.signal(syscall.SIGSTOP)
	tr.load(9 * time.Second)
	p.woken = time.Now().UnixNano()
	p.signal(syscall.SIGCONT)
	tr.load(3 * time.Second)
	o := tr.check()
	if o.inFlight+o.unrecorded == 0 {
		t.Error("nothing was under way in the frozen process: the trial shows nothing")
	}
	if o.zombie > 0 {
		t.Errorf("%d executions started by the woken process", o.zombie)
	}
}
