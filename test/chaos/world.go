package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"qstream/test/fakedns"
	"qstream/test/fakemx"
	"qstream/test/link"
	"qstream/test/rig"
)

// world is one system under load, with everything around it: source, sinks,
// names, the network between all of them, and who starts again what ended.
type world struct {
	*rig.System
	net     *link.Network
	sink    *fakemx.Server // of all mail but DSNs
	reports *fakemx.Server // of DSNs
	names   *fakedns.Server
	load    *rig.Load
	disk    *disk // under the embedded broker; nil: that of the machine
	wg      sync.WaitGroup
	stop    context.CancelFunc // of load and keeper
	source  context.CancelFunc // of load

	mu      sync.Mutex
	wanted  map[string]bool // processes that have to run
	fallen  map[string]bool // of these, those that a fault ended
	started map[string]int  // times that one ended by itself
	extra   int             // replicas added so far
}

// open starts a world in a folder and its load, and returns once mail flows.
func open(broker, dir string, rate float64, diskful bool) (*world, error) {
	s, err := rig.New(broker, dir)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	w := &world{System: s, stop: stop, wanted: map[string]bool{}, fallen: map[string]bool{}, started: map[string]int{}}
	w.net = link.New(w.parties)
	if err := w.start(diskful); err != nil {
		return nil, errors.Join(err, w.close())
	}
	if err := w.begin(ctx, rate); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

func (w *world) start(diskful bool) (err error) {
	if w.sink, err = fakemx.Start(fakemx.Config{DigestOnly: true}); err != nil {
		return err
	}
	if w.reports, err = fakemx.Start(fakemx.Config{}); err != nil {
		return err
	}
	w.troubleMail()
	if w.names, err = fakedns.Start(zone()); err != nil {
		return err
	}
	w.Env = []string{"QSTREAM_DNS=" + w.names.Addr()}
	w.Front = w.net.Front
	if diskful && w.Broker == "embedded" {
		if w.disk, err = mount(filepath.Join(w.Work, "data")); err != nil {
			return err
		}
	}
	sink, err := w.net.Front("sink", w.sink.Addr())
	if err != nil {
		return err
	}
	file := filepath.Join(w.Work, "directory.yaml")
	if err := os.WriteFile(file, []byte(documents(port(sink), w.sink.Port(), w.reports.Port())), 0o644); err != nil {
		return err
	}
	if err := w.Roles(file); err != nil {
		return err
	}
	for _, name := range processes(w.Broker) {
		if err := w.place(name); err != nil {
			return err
		}
		w.want(name)
	}
	return nil
}

// place starts a process that Roles didn't.
func (w *world) place(name string) error {
	role, _, _ := strings.Cut(name, "-")
	var flags []string
	switch {
	case w.Process(name) != nil:
		return nil
	case role == "ledger":
		flags = []string{"--db", filepath.Join(w.Work, "ledger"), "--audit-every=-1s"}
	}
	return w.Role(role, name, nil, flags...)
}

// begin starts the keeper and the load.
func (w *world) begin(ctx context.Context, rate float64) error {
	edge, err := w.net.Front("edge", w.SMTP)
	if err != nil {
		return err
	}
	w.load = &rig.Load{
		Addr: edge, Sessions: 10, Rate: rate, Wait: 30 * time.Second,
		To: recipient, From: reversePath, Sized: size,
	}
	w.wg.Go(func() { w.keep(ctx) })
	source, end := context.WithCancel(ctx)
	w.source = end
	w.wg.Go(func() { w.load.Run(source, 0) })
	for range 600 {
		if w.load.Accepted() > 20 {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return errors.New("no mail is accepted, before any fault")
}

// troubleMail lets the sinks refuse and delay mail by its recipient; called
// again, the deferrals come again.
func (w *world) troubleMail() {
	w.sink.SetRules(
		fakemx.Rule{Line: "RCPT TO:<" + gone, Reply: "550 5.1.1 no such user"},
		fakemx.Rule{Line: "RCPT TO:<" + later, Reply: "451 4.2.0 later", Times: 10},
		fakemx.Rule{Line: "RCPT TO:<" + slow, Delay: 2 * time.Second},
	)
}

// close ends everything; what is on the disk is left.
func (w *world) close() error {
	w.stop()
	w.net.Heal()
	w.wg.Wait()
	w.Close()
	w.net.Close()
	if w.sink != nil {
		w.sink.Close()
	}
	if w.reports != nil {
		w.reports.Close()
	}
	if w.names != nil {
		w.names.Close()
	}
	return w.disk.unmount()
}

// parties are the processes that the network knows.
func (w *world) parties() []link.Party {
	var parties []link.Party
	w.mu.Lock()
	for name := range w.wanted {
		if p := w.Process(name); p != nil {
			parties = append(parties, link.Party{Name: name, PID: p.PID()})
		}
	}
	w.mu.Unlock()
	if w.Kafka != nil {
		for _, b := range w.Kafka.Brokers {
			if pid := b.PID(); pid != 0 {
				parties = append(parties, link.Party{Name: fmt.Sprintf("broker-%d", b.ID), PID: pid})
			}
		}
	}
	return append(parties, link.Party{Name: "source", PID: os.Getpid()})
}

// want lets the keeper start a process again whenever it ends.
func (w *world) want(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wanted[name] = true
}

// release lets a process stay away once it ends, until want.
func (w *world) release(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.wanted, name)
}

// keep starts again what ended, as systemd or Kubernetes would. Processes that
// no fault ended are counted.
func (w *world) keep(ctx context.Context) {
	for ctx.Err() == nil {
		w.mu.Lock()
		var ended []string
		for name := range w.wanted {
			if w.Ended(name, 0) {
				ended = append(ended, name)
				if !w.fallen[name] {
					w.started[name]++
				}
				delete(w.fallen, name)
			}
		}
		for _, name := range ended {
			// Under the lock, so that nobody releases it in between.
			if err := w.Launch(name); err != nil {
				fmt.Fprintln(os.Stderr, "chaos:", err)
			}
		}
		w.mu.Unlock()
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// fell says that a fault ends a process.
func (w *world) fell(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fallen[name] = true
}

// end signals a process and waits until it has ended; the keeper starts it.
func (w *world) end(name string, sig syscall.Signal) error {
	w.fell(name)
	return w.Signal(name, sig)
}

// settled waits until a process is ready, for a bounded time: while brokers
// are away none will be.
func (w *world) settled(name string, within time.Duration) bool {
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if w.Ready(name) {
			return true
		}
	}
	return false
}

// refresh stops and starts who delivers, so that nobody believes any more that
// a destination is dead.
func (w *world) refresh() {
	for _, name := range processes(w.Broker) {
		if name == "up" || strings.HasPrefix(name, "deliver") {
			if err := w.again(name, syscall.SIGTERM); err != nil {
				fmt.Fprintln(os.Stderr, "chaos:", err)
			}
		}
	}
}

// heal ends every trouble and waits until every process is ready.
func (w *world) heal(ctx context.Context) error {
	w.net.Heal()
	if w.Kafka != nil {
		if err := w.revive(ctx, w.Kafka.Brokers...); err != nil {
			return err
		}
	}
	for _, name := range processes(w.Broker) {
		if !w.settled(name, 2*rig.Patience) {
			return fmt.Errorf("%s isn't ready %v after the last fault\n%s", name, 2*rig.Patience, w.LogTail(name))
		}
	}
	return nil
}
