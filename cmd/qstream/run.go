package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"qstream/bus"
	"qstream/control"
	"qstream/directory"
	"qstream/schemas"
	"qstream/tapper/tenants"
)

// startWithin is how long a role waits for a broker that doesn't answer yet,
// before it gives up and leaves the rest to who restarts it.
const startWithin = time.Minute

// tellEvery is how often one who waits for a broker is told so.
const tellEvery = 10 * time.Second

// settleWithin is how long the start is announced later for a role that isn't
// ready at once.
const settleWithin = 15 * time.Second

var errNoKafka = usagef("a role alone needs a cluster: say where its brokers are by --kafka HOST:PORT, or run all roles by: qstream up")

// roleFlags are what every single role's verb has.
type roleFlags struct {
	Broker `embed:""`
	HTTP   string `name:"http" placeholder:"ADDR" default:"127.0.0.1:8025" help:"Serve health and metrics here (default: ${default}); empty: nowhere."`
}

// run is the life of a process that runs roles on a cluster.
func (f *roleFlags) run(ctx context.Context, p *Process, roles ...role) error {
	if len(f.Kafka) == 0 {
		return errNoKafka
	}
	cfg, err := f.Broker.config()
	if err != nil {
		return err
	}
	s, err := newShell(p, cfg, f.HTTP)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.await(ctx); err != nil {
		return err
	}
	if err := s.verify(ctx, schemas.FixedTopics()); err != nil {
		return err
	}
	return s.live(ctx, roles, func([]stage) error {
		for _, r := range roles {
			s.log.Info("running", "stage", r.name, "host", s.web.addr())
		}
		return nil
	})
}

// shell is what a process has around its roles.
type shell struct {
	log      *slog.Logger
	registry *prometheus.Registry
	health   *health
	web      *web
	bus      *bus.Bus
	process  *Process
}

// newShell opens the HTTP port and makes the bus; nothing runs yet.
func newShell(p *Process, cfg bus.Config, httpAddr string) (*shell, error) {
	s := &shell{log: p.Log, registry: newRegistry(), health: &health{}, process: p}
	cfg.Log, cfg.Now, cfg.Registerer, cfg.Failpoint = p.Log, p.Now, s.registry, p.Failpoint
	var err error
	if s.bus, err = bus.Dial(cfg); err != nil {
		return nil, err
	}
	if s.web, err = listenHTTP(httpAddr, s.health, s.registry); err != nil {
		s.bus.Close()
		return nil, err
	}
	return s, nil
}

// close is for after live, or instead of it.
func (s *shell) close() {
	s.bus.Close()
	s.web.close()
}

// await waits until a broker answers.
func (s *shell) await(ctx context.Context) error {
	err := s.patiently(ctx, "broker doesn't answer yet", func(ctx context.Context) (again bool, err error) {
		ctx, cancel := context.WithTimeout(ctx, pingEvery)
		defer cancel()
		err = s.bus.Ping(ctx)
		return true, err
	})
	switch {
	case err != nil && ctx.Err() != nil:
		return fmt.Errorf("stopped before any broker had answered: %w", err)
	case err != nil:
		return fmt.Errorf("no broker answered for %v: %w", startWithin, err)
	}
	return nil
}

// verify refuses to start on topics that could lose mail. Brokers that are just
// starting, or choose leaders, are asked again.
func (s *shell) verify(ctx context.Context, topics []schemas.Topic) error {
	var differences []bus.Difference
	err := s.patiently(ctx, "topics can't be verified yet", func(ctx context.Context) (again bool, err error) {
		differences, err = s.bus.VerifyTopics(ctx, topics, bus.CreateOptions{})
		return bus.Temporary(err), err
	})
	if err != nil {
		return fmt.Errorf("verify topics: %w", err)
	}
	return refuse(s.log, differences)
}

// patiently tries until it succeeds, says that there is no sense in trying again,
// or startWithin is over. Now and then it tells why it waits.
func (s *shell) patiently(ctx context.Context, why string, try func(context.Context) (again bool, err error)) error {
	wait, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	for told := (time.Time{}); ; {
		again, err := try(wait)
		if err == nil || !again {
			return err
		}
		if ctx.Err() == nil && time.Since(told) >= tellEvery {
			told = time.Now()
			end, _ := wait.Deadline()
			s.log.Warn(why, "given_up_in", time.Until(end).Round(time.Second), "err", err)
		}
		if !bus.Pause(wait, 500*time.Millisecond) {
			return err
		}
	}
}

// refuse turns dangerous differences into an error that says what to do;
// others are logged.
func refuse(log *slog.Logger, differences []bus.Difference) error {
	var dangerous, missing []string
	for _, d := range differences {
		if d.Missing() {
			missing = append(missing, d.Topic)
			continue
		}
		if !d.Dangerous {
			log.Warn("topic setting differs", "topic", d.Topic, "setting", d.Setting, "want", d.Want, "got", d.Got, "why", d.Why)
			continue
		}
		dangerous = append(dangerous, fmt.Sprintf("  %s: %s is %q, want %q: %s", d.Topic, d.Setting, d.Got, d.Want, d.Why))
	}
	switch {
	case len(missing) > 0:
		return fmt.Errorf("%d topics are missing (%s); make them by: qstream topics create",
			len(missing), strings.Join(missing, ", "))
	case len(dangerous) > 0:
		return fmt.Errorf("the topics are not fit for mail:\n%s\n"+
			"qstream changes nothing that exists: mend the settings, then look again by: qstream topics verify",
			strings.Join(dangerous, "\n"))
	}
	return nil
}

// live makes the roles and runs everything until ctx ends or a part fails.
// began is called with the stages once they run.
func (s *shell) live(ctx context.Context, roles []role, began func([]stage) error) error {
	defer paceHeap(heapRoom)()
	d, c := directory.Follow(s.bus).WithLog(s.log), control.Follow(s.bus, nil).WithLog(s.log)
	g := s.ground(d, c)
	if err := errors.Join(d.Register(g.metrics), c.Register(g.metrics)); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	ping := newPinger(s.bus)
	s.health.watch(ping, d, c, s.process.Now)
	parts := []part{
		{name: "http", run: s.web.run},
		{name: "ping", run: ping.run},
		{name: "directory", run: d.Run, ready: closed(d.Ready())},
		{name: "control", run: c.Run, ready: closed(c.Ready())},
	}
	stages, err := makeStages(g, roles)
	if err != nil {
		return err
	}
	if err := listen(roles, stages); err != nil {
		return err
	}
	for i, r := range roles {
		s.health.add(r.name, stages[i].Ready)
		if h, ok := stages[i].(interface{ Handler() http.Handler }); ok {
			s.web.serve("/v1/", h.Handler())
		}
		if h, ok := stages[i].(interface{ Events() http.Handler }); ok {
			s.web.serve(tenants.Path, h.Events())
		}
		parts = append(parts, part{name: r.name, run: stages[i].Run})
	}
	// Who waits for /readyz may use at once what began tells.
	told := make(chan struct{})
	s.health.add("start", func() error {
		select {
		case <-told:
			return nil
		default:
			return errors.New("not done yet")
		}
	})
	parts = append(parts, part{name: "announcement", run: untilDone, ready: func(ctx context.Context) error {
		s.settle(ctx, roles, stages)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := began(stages); err != nil {
			return err
		}
		close(told)
		return nil
	}})
	return live(ctx, s.log, parts)
}

// settle gives the stages some time to become ready; one that doesn't shows
// in the log and in /readyz.
func (s *shell) settle(ctx context.Context, roles []role, stages []stage) {
	deadline := time.Now().Add(settleWithin)
	for i, st := range stages {
		err := st.Ready()
		for ; err != nil && ctx.Err() == nil && time.Now().Before(deadline); err = st.Ready() {
			time.Sleep(20 * time.Millisecond)
		}
		switch {
		case ctx.Err() != nil:
		case err != nil:
			s.log.Warn("not ready yet", "stage", roles[i].name, "err", err)
		default:
			s.log.Debug("ready", "stage", roles[i].name)
		}
	}
}

// ground is what the roles of this process share.
func (s *shell) ground(d *directory.Follower, c *control.Follower) ground {
	return ground{
		bus: s.bus, directory: d, control: c, log: s.log, metrics: s.registry,
		now: s.process.Now, failpoint: s.process.Failpoint,
	}
}

func makeStages(g ground, roles []role) ([]stage, error) {
	stages := make([]stage, len(roles))
	for i, r := range roles {
		var err error
		if stages[i], err = r.make(g); err != nil {
			return nil, fmt.Errorf("make %s: %w", r.name, err)
		}
	}
	return stages, nil
}

// listen opens the ports of stages that have one, so that a taken one is told
// before anything starts.
func listen(roles []role, stages []stage) error {
	for i, st := range stages {
		if l, ok := st.(interface{ Listen() error }); ok {
			if err := l.Listen(); err != nil {
				return fmt.Errorf("%s: %w", roles[i].name, taken(err))
			}
		}
	}
	return nil
}

// closed waits for a channel that is closed when something is ready.
func closed(ready <-chan struct{}) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-ready:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func untilDone(ctx context.Context) error {
	<-ctx.Done()
	return nil
}
