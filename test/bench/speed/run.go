package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"qstream/test/bench/load"
	"qstream/test/bench/peer"
)

// run is what one peer did in one round of a workload. Times are milliseconds,
// CPU is seconds for 1,000 accepted mails, memory megabytes.
type run struct {
	Workload string    `json:"workload"`
	Peer     string    `json:"peer"`
	At       time.Time `json:"at"`
	Round    int       `json:"round"` // the same number: measured one after the other
	Mails    int       `json:"mails"`
	Accept   float64   `json:"accept_per_s"`
	Relay    float64   `json:"relay_per_s"`
	Ack50    float64   `json:"ack_p50_ms"`
	Ack99    float64   `json:"ack_p99_ms"`
	End50    float64   `json:"end_p50_ms"`
	End99    float64   `json:"end_p99_ms"`

	CPU          float64 `json:"cpu_s"`
	BrokerCPU    float64 `json:"broker_cpu_s"`
	LoadCPU      float64 `json:"load_cpu_s"` // of source and sink
	Memory       float64 `json:"memory_mb"`
	BrokerMemory float64 `json:"broker_memory_mb"`
	Foreign      float64 `json:"foreign_cpu"` // share of the machine's CPU that went to others, kernel threads included

	Lost       int `json:"lost"`
	Duplicates int `json:"duplicates"`
	Corrupt    int `json:"corrupt"`
	Refused    int `json:"refused"`
	Broken     int `json:"broken"`
}

const (
	settled  = 1500 * time.Millisecond // after the last arrival, for what a peer has yet to write: qstream's ledger comes once a second
	patience = 20 * time.Second        // without any arrival
)

// bench is the two ends and what they are set to.
type bench struct {
	sink    *load.Sink
	domains []string
	next    uint64 // number of the next mail
	seconds int    // how long a profile is taken
	warm    int    // mails before a run
}

// measure starts the peer, warms it up, measures the workload and stops it.
// With profile it then goes on with the same load and writes qstream's CPU
// profile there.
func (b *bench) measure(ctx context.Context, p peer.Peer, w workload, contents *load.Mails, profile string) (r run, err error) {
	if err := p.Start(ctx); err != nil {
		return r, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, p.Log())
		}
		err = errors.Join(err, p.Stop())
	}()
	source := func(n int) *load.Source {
		s := &load.Source{
			Addr: p.Addr(), Domains: b.domains, Mails: contents, First: b.next,
			Sessions: w.Sessions, PerConnection: w.PerConnection, Recipients: w.Recipients, Pipelining: w.Pipelining, Rate: w.Rate,
		}
		b.next += uint64(n)
		return s
	}
	s := source(b.warm)
	s.Rate, s.Sessions = 0, min(w.Sessions, 10)
	if _, err := b.round(ctx, s, b.warm); err != nil {
		return r, fmt.Errorf("warm-up: %w", err)
	}
	time.Sleep(settled) // it is no part of what is measured
	before, err := b.look(p)
	if err != nil {
		return r, err
	}
	t, err := b.round(ctx, source(w.Mails), w.Mails)
	if err != nil {
		return r, err
	}
	time.Sleep(settled)
	after, err := b.look(p)
	if err != nil {
		return r, err
	}
	if q, ok := p.(*peer.QStream); ok && profile != "" {
		err = b.profile(ctx, q, source(1<<24), profile)
	}
	return result(w, p.Name(), t, before, after), err
}

// round hands in n mails and waits until all that were accepted arrived, or
// none arrives any more.
func (b *bench) round(ctx context.Context, s *load.Source, n int) (load.Tally, error) {
	before, err := b.sink.Count()
	if err != nil {
		return load.Tally{}, err
	}
	sent, err := s.Run(ctx, n)
	if err != nil {
		return load.Tally{}, err
	}
	if s.Acked() == 0 {
		return load.Tally{}, fmt.Errorf("nothing was accepted: %v", sent.Err)
	}
	var all []load.Arrival
	for want := before + s.Acked()*max(s.Recipients, 1); ; {
		late := b.sink.Await(ctx, want, patience)
		took, err := b.sink.Take()
		if err != nil {
			return load.Tally{}, err
		}
		all = append(all, took.Arrivals...)
		t := load.Count(sent, all)
		if t.Lost == 0 || late != nil {
			return t, ctx.Err()
		}
		want += t.Lost // some came twice
	}
}

// look is the state of what is counted up.
type look struct {
	peer       peer.Usage
	load       time.Duration
	busy, idle float64 // seconds of all processors
}

func (b *bench) look(p peer.Peer) (l look, err error) {
	if l.peer, err = p.Usage(); err != nil {
		return l, err
	}
	if l.load, err = b.sink.CPU(); err != nil {
		return l, err
	}
	var own unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &own); err != nil {
		return l, err
	}
	l.load += time.Duration(own.Utime.Nano() + own.Stime.Nano())
	l.busy, l.idle, err = machine()
	return l, err
}

// machine is what all processors have done since they were started.
func machine() (busy, idle float64, err error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	var user, nice, system, rest, wait, irq, soft, steal float64
	if _, err := fmt.Sscanf(string(text), "cpu %f %f %f %f %f %f %f %f", &user, &nice, &system, &rest, &wait, &irq, &soft, &steal); err != nil {
		return 0, 0, fmt.Errorf("read /proc/stat: %w", err)
	}
	const tick = 100
	return (user + nice + system + irq + soft + steal) / tick, (rest + wait) / tick, nil
}

func result(w workload, name string, t load.Tally, before, after look) run {
	used := after.peer.Since(before.peer)
	ends := after.load - before.load
	per := func(d time.Duration) float64 { return d.Seconds() * 1000 / max(float64(t.Accepted), 1) }
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	mb := func(n int64) float64 { return float64(n) / (1 << 20) }
	busy, idle := after.busy-before.busy, after.idle-before.idle
	return run{
		Workload: w.name(), Peer: name, At: time.Now().UTC().Truncate(time.Second), Mails: t.Accepted,
		Accept: t.AcceptRate(), Relay: t.RelayRate(),
		Ack50: ms(t.Ack.Quantile(0.5)), Ack99: ms(t.Ack.Quantile(0.99)),
		End50: ms(t.EndToEnd.Quantile(0.5)), End99: ms(t.EndToEnd.Quantile(0.99)),
		CPU: per(used.CPU), BrokerCPU: per(used.BrokerCPU), LoadCPU: per(ends),
		Memory: mb(used.Memory), BrokerMemory: mb(used.BrokerMemory),
		Foreign: max(0, busy-used.Total().Seconds()-ends.Seconds()) / max(busy+idle, 0.01),
		Lost:    t.Lost, Duplicates: t.Duplicates, Corrupt: t.Corrupt, Refused: t.Refused, Broken: t.Broken,
	}
}

// profile keeps the load up while qstream's CPU profile is taken.
func (b *bench) profile(ctx context.Context, q *peer.QStream, s *load.Source, file string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = s.Run(ctx, 0) })
	err := fetch(ctx, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", q.HTTP(), b.seconds), file)
	cancel()
	wg.Wait()
	return err
}

// fetch writes what an address serves to a file.
func fetch(ctx context.Context, url, file string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("fetch the profile: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("fetch the profile: %s", resp.Status)
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, resp.Body)
	return errors.Join(err, out.Close())
}
