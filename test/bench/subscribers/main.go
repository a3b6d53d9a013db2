// Command subscribers measures what ten subscribers cost: mail through one
// qstream without and with them, one after the other, several times, at a rate
// that leaves the machine idle in part and as fast as it goes.
//
//	go run ./test/bench/subscribers -rounds 3 -seconds 10 -rate 100
//
// The subscribers are three readers of all received mail, as archives are,
// three webhooks that get every event, and four readers of events; flags choose
// others, so that each part's cost can be told. Readers and endpoints are a
// process of their own, whose CPU is told apart. As root.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"qstream/schemas"
	"qstream/test/bench/load"
	"qstream/test/bench/peer"
	"qstream/test/fakehook"
	"qstream/test/port"
)

const (
	perMail  = 3 // events of a mail that is delivered at once
	settled  = 1500 * time.Millisecond
	patience = 20 * time.Second
	lagging  = 2 * time.Minute // for the last post after the last mail
	size     = 10 << 10
	warm     = 300
)

// options are the flags.
type options struct {
	rounds  int
	seconds int
	rate    float64
	fast    int
	only    bool
	profile string
	parts
}

// parts are which subscribers there are.
type parts struct {
	hooks   int
	readers []string // topics, one for each
}

func main() {
	load.Main()
	readersMain()
	var o options
	flag.IntVar(&o.rounds, "rounds", 2, "rounds of each kind")
	flag.IntVar(&o.seconds, "seconds", 8, "seconds of a run at the rate")
	flag.Float64Var(&o.rate, "rate", 100, "mails a second of those")
	flag.IntVar(&o.fast, "fast", 2000, "mails of a run as fast as it goes")
	flag.IntVar(&o.hooks, "hooks", 3, "webhooks that get every event")
	copies := flag.Int("copies", 3, "readers of all received mail")
	events := flag.Int("events", 4, "readers of all events")
	flag.BoolVar(&o.only, "only", false, "no runs without subscribers")
	flag.StringVar(&o.profile, "profile", "", "write a CPU profile of qstream at full speed here")
	flag.Parse()
	o.readers = append(slices.Repeat([]string{schemas.Received}, *copies), slices.Repeat([]string{schemas.Events}, *events)...)
	if err := o.run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// figures are what one run came to.
type figures struct {
	relay, cpu, readers float64 // mails a second; CPU seconds for 1,000 mails
	p50, p99            float64 // ms from MAIL FROM to the sink's 250
	posts               int
	behind              time.Duration // from the last mail to the last post
}

func (f figures) String() string {
	return fmt.Sprintf("relay %6.1f/s  end %6.1f/%6.1f ms  CPU %.2f s/1000, readers and endpoints %.2f  posts %d, the last %.1f s after the mails",
		f.relay, f.p50, f.p99, f.cpu, f.readers, f.posts, f.behind.Seconds())
}

func (o options) run(ctx context.Context) error {
	var sums [2][2]figures
	for round := range o.rounds {
		for i := range 2 {
			with := (i+round)%2 == 1
			if o.only && !with {
				continue
			}
			at, fast, err := o.measure(ctx, with)
			if err != nil {
				return err
			}
			fmt.Printf("with %-5t %3.0f/s: %v\n", with, o.rate, at)
			fmt.Printf("with %-5t fast : %v\n", with, fast)
			k := 0
			if with {
				k = 1
			}
			for j, f := range []figures{at, fast} {
				sums[j][k].relay += f.relay
				sums[j][k].cpu += f.cpu
				sums[j][k].readers += f.readers
				sums[j][k].p50 += f.p50
				sums[j][k].p99 += f.p99
				sums[j][k].behind = max(sums[j][k].behind, f.behind)
			}
		}
	}
	if o.only {
		return nil
	}
	for j, name := range []string{"rate", "fast"} {
		a, b := sums[j][0], sums[j][1]
		fmt.Printf("%s: throughput with/without %.3f, p50 %.2f, p99 %.2f; CPU of qstream %.2f, with readers and endpoints %.2f; posts %.1f s behind\n",
			name, b.relay/a.relay, b.p50/a.p50, b.p99/a.p99, b.cpu/a.cpu, (b.cpu+b.readers)/a.cpu, b.behind.Seconds())
	}
	return nil
}

// measure starts a system, with or without subscribers, and loads it twice.
func (o options) measure(ctx context.Context, with bool) (at, fast figures, err error) {
	hosts, domains := make([]load.Host, 10), []string{}
	for i := range hosts {
		hosts[i].IP = fmt.Sprintf("127.0.0.%d", i+2)
		domains = append(domains, fmt.Sprintf("d%d.test", i+2))
	}
	sink, err := load.StartSink(hosts)
	if err != nil {
		return at, fast, err
	}
	defer func() { err = errors.Join(err, sink.Close()) }()
	t := peer.Tenant{Name: "acme"}
	for i, d := range domains {
		t.Domains = append(t.Domains, peer.Domain{Name: d, Via: sink.Addr(i)})
	}
	q := &peer.QStream{Site: peer.Site{Tenants: []peer.Tenant{t}}}
	var addrs []string
	if with {
		var done func()
		if addrs, q.Flags, done, err = o.documents(); err != nil {
			return at, fast, err
		}
		defer done()
	}
	if err := q.Start(ctx); err != nil {
		return at, fast, err
	}
	defer func() { err = errors.Join(err, q.Stop()) }()
	var r *readers
	if with {
		seeds, err := brokers(q.HTTP())
		if err == nil {
			r, err = startReaders(o.parts, seeds, addrs)
		}
		if err != nil {
			return at, fast, err
		}
		defer r.stop()
	}
	mails, first := load.NewMails(size), uint64(1<<32)
	source := func(n int, rate float64, sessions int) *load.Source {
		s := &load.Source{Addr: q.Addr(), Domains: domains, Mails: mails, First: first, Sessions: sessions, Rate: rate}
		first += uint64(n)
		return s
	}
	if _, _, err := o.load(ctx, q, r, sink, source(warm, 0, 10), warm); err != nil {
		return at, fast, err
	}
	n := int(o.rate * float64(o.seconds))
	if at, _, err = o.load(ctx, q, r, sink, source(n, o.rate, 20), n); err != nil {
		return at, fast, err
	}
	profiled := make(chan error, 1)
	if o.profile != "" && with {
		go func() { profiled <- profile(q.HTTP(), o.profile) }()
	} else {
		profiled <- nil
	}
	fast, _, err = o.load(ctx, q, r, sink, source(o.fast, 0, 20), o.fast)
	return at, fast, errors.Join(err, <-profiled)
}

// load hands in n mails and waits until they arrived and were posted.
func (o options) load(ctx context.Context, q *peer.QStream, r *readers, sink *load.Sink, s *load.Source, n int) (f figures, t load.Tally, err error) {
	time.Sleep(settled)
	before, err := q.Usage()
	if err != nil {
		return f, t, err
	}
	readBefore, err := r.told()
	if err != nil {
		return f, t, err
	}
	count, err := sink.Count()
	if err != nil {
		return f, t, err
	}
	sent, err := s.Run(ctx, n)
	if err != nil {
		return f, t, err
	}
	if err := sink.Await(ctx, count+s.Acked(), patience); err != nil {
		return f, t, err
	}
	took, err := sink.Take()
	if err != nil {
		return f, t, err
	}
	behind, err := r.posted(readBefore.Posts + s.Acked()*perMail*o.hooks)
	if err != nil {
		return f, t, err
	}
	time.Sleep(settled)
	after, err := q.Usage()
	if err != nil {
		return f, t, err
	}
	readAfter, err := r.told()
	if err != nil {
		return f, t, err
	}
	t = load.Count(sent, took.Arrivals)
	if t.Lost > 0 || t.Corrupt > 0 || t.Accepted == 0 {
		return f, t, fmt.Errorf("%d accepted, %d lost, %d corrupt", t.Accepted, t.Lost, t.Corrupt)
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	per := func(d time.Duration) float64 { return d.Seconds() * 1000 / float64(t.Accepted) }
	return figures{
		relay: t.RelayRate(), cpu: per(after.CPU - before.CPU), readers: per(readAfter.CPU - readBefore.CPU),
		p50: ms(t.EndToEnd.Quantile(0.5)), p99: ms(t.EndToEnd.Quantile(0.99)), posts: readAfter.Posts - readBefore.Posts, behind: behind,
	}, t, nil
}

// documents are addresses of the webhooks' endpoints, and the flags that apply
// what subscribes.
func (p parts) documents() (addrs, flags []string, done func(), err error) {
	if p.hooks == 0 {
		return nil, nil, func() {}, nil
	}
	dir, err := os.MkdirTemp("", "qstream-subscribers-")
	if err != nil {
		return nil, nil, nil, err
	}
	var docs []string
	for i := range p.hooks {
		addr, err := port.FreeAddr()
		if err != nil {
			return nil, nil, nil, err
		}
		addrs = append(addrs, addr)
		docs = append(docs, fmt.Sprintf("kind: webhook\nname: w%d\nall: true\nprivate: true\nurl: http://%s/hook\nsecret: %s\n", i, addr, fakehook.Secret))
	}
	file := filepath.Join(dir, "subscribers.yaml")
	err = os.WriteFile(file, []byte(strings.Join(docs, "---\n")), 0o600)
	return addrs, []string{"--apply", file}, func() { _ = os.RemoveAll(dir) }, err
}

// brokers are the system's brokers, as it tells verbs.
func brokers(addr string) ([]string, error) {
	res, err := http.Get("http://" + addr + "/system")
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var told struct{ Kafka []string }
	if err := json.NewDecoder(res.Body).Decode(&told); err != nil {
		return nil, err
	}
	return told.Kafka, nil
}

// profile keeps what a qstream does for some seconds.
func profile(addr, file string) error {
	res, err := http.Get("http://" + addr + "/debug/pprof/profile?seconds=4")
	if err != nil {
		return err
	}
	defer res.Body.Close()
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, res.Body)
	return errors.Join(err, out.Close())
}
