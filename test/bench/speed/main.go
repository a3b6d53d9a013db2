// Program speed measures how fast qstream relays, with Postfix beside it.
//
// A round runs every peer once, one after the other, each with an empty queue,
// and each round begins with another peer. Source, sink and peer share the
// machine, so rates are this machine's at this hour; what carries over are the
// ratios within a round, and CPU time for a thousand mails.
//
// Guarantee: no run is left out, and every run says what was lost, came twice
// or came damaged.
//
// It needs root, for namespaces and control groups, and Debian's Postfix.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"qstream/test/bench/load"
	"qstream/test/bench/peer"
	"qstream/test/kafka"
	"qstream/test/rig"
)

// options are the flags.
type options struct {
	workload
	broker, size        string
	rounds              int
	all, alone, ceiling bool
	warm                int
	results, page       string
	profile             string
	seconds             int
}

func main() {
	load.Main()
	var o options
	flag.StringVar(&o.broker, "broker", peer.Embedded, "qstream's brokers, by commas: "+strings.Join(brokers, ", ")+"; with +scan through the scanning stage, no engine asked")
	flag.StringVar(&o.size, "size", "10k", "octets of a mail")
	flag.IntVar(&o.Sessions, "sessions", 10, "sessions at once")
	flag.Float64Var(&o.Rate, "rate", 0, "mails a second (0: as fast as they go)")
	flag.IntVar(&o.Mails, "mails", 0, "mails of a run (0: some seconds of Postfix)")
	flag.IntVar(&o.Recipients, "rcpts", 1, "recipients of a mail")
	flag.IntVar(&o.PerConnection, "per-connection", 10, "mails on a connection (-1: no limit)")
	flag.BoolVar(&o.Pipelining, "pipelining", false, "let the source pipeline")
	flag.IntVar(&o.rounds, "rounds", 3, "rounds")
	flag.BoolVar(&o.all, "all", false, "every workload of docs/performance.md instead of -size, -sessions and -rate")
	flag.BoolVar(&o.alone, "alone", false, "qstream without Postfix beside it")
	flag.BoolVar(&o.ceiling, "ceiling", false, "also send straight from the source to the sink, with nothing between")
	flag.IntVar(&o.warm, "warm", 0, "mails before those that are measured (0: 40; 1000 for every peer with Kafka among them)")
	flag.StringVar(&o.results, "json", "", "add each run to this file, and report all that are in it")
	flag.StringVar(&o.page, "page", "", "write the tables into this page, between its markers; with -rounds 0 only that")
	flag.StringVar(&o.profile, "profile", "", "write qstream's CPU profile to this file, taken under the same load after the last round")
	flag.IntVar(&o.seconds, "seconds", 5, "how long the profile is taken")
	flag.Parse()
	if err := start(&o); err != nil {
		fmt.Fprintln(os.Stderr, "speed:", err)
		os.Exit(1)
	}
}

func start(o *options) (err error) {
	if o.workload.Size, err = parseSize(o.size); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	all, err := readRuns(o.results)
	if err != nil {
		return err
	}
	if o.rounds > 0 {
		if strings.Contains(o.broker, "kafka") {
			// In the namespace there is no way out to fetch it.
			if _, err := kafka.Install(ctx); err != nil {
				return err
			}
		}
		if err := peer.Isolate(); err != nil {
			return err
		}
		defer rig.Clean()
		fresh, err := o.compare(ctx, lastRound(all))
		all = append(all, fresh...)
		if err != nil {
			return err
		}
	}
	text := tables(all)
	fmt.Print("\n" + text)
	if o.page != "" {
		return writePage(o.page, environment(all)+text)
	}
	return nil
}

// compare runs the rounds of every workload that was asked for.
func (o *options) compare(ctx context.Context, round int) (all []run, err error) {
	workloads := []workload{o.workload}
	if o.all {
		workloads = standard()
	}
	hosts := make([]load.Host, 10)
	b := bench{next: 1 << 32, seconds: o.seconds}
	for i := range hosts {
		hosts[i].IP = fmt.Sprintf("127.0.0.%d", i+2)
		b.domains = append(b.domains, fmt.Sprintf("d%d.test", i+2))
	}
	if b.sink, err = load.StartSink(hosts); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.sink.Close()) }()
	peers, err := o.peers(&b)
	if err != nil {
		return nil, err
	}
	for _, w := range workloads {
		w = w.filled()
		b.warm = o.warmUp(w)
		contents := load.NewMails(w.Size)
		fmt.Fprintf(os.Stderr, "%s, %d mails a run\n", w.name(), w.Mails)
		for n := range o.rounds {
			round++
			for i := range peers {
				p, profile := peers[(round+i)%len(peers)], ""
				if n == o.rounds-1 {
					profile = o.profile
				}
				r, err := b.measure(ctx, p, w, contents, profile)
				if err != nil {
					return all, fmt.Errorf("%s, round %d: %w", p.Name(), n+1, err)
				}
				r.Round = round
				all = append(all, r)
				fmt.Fprintf(os.Stderr, "  round %d %s\n", n+1, r.line())
				if err := appendRun(o.results, r); err != nil {
					return all, err
				}
			}
		}
	}
	return all, nil
}

// warmUp is how many mails go before those that are measured. Java compiles
// while it runs: a broker that has just started needs twice the CPU.
func (o *options) warmUp(w workload) int {
	switch kafka := strings.Contains(o.broker, "kafka"); {
	case o.warm > 0:
		return o.warm
	case kafka && w.Size < 1<<19:
		return 1000
	case kafka:
		return 200
	}
	return 40
}

// peers are Postfix and qstream on every broker asked for.
func (o *options) peers(b *bench) ([]peer.Peer, error) {
	site := siteFor(b.domains, b.sink)
	var all []peer.Peer
	if !o.alone {
		all = append(all, &peer.Postfix{Site: site})
	}
	if o.ceiling {
		all = append(all, &nothing{addr: b.sink.Addr(0)})
	}
	for name := range strings.SplitSeq(o.broker, ",") {
		name, site.Scan = strings.CutSuffix(name, "+scan")
		q, err := qstream(site, name)
		if err != nil {
			return nil, err
		}
		all = append(all, q)
	}
	return all, nil
}

// siteFor sends each domain to a host of the sink of its own, so that each is
// a destination of its own for every peer.
func siteFor(domains []string, sink *load.Sink) peer.Site {
	t := peer.Tenant{Name: "acme"}
	for i, d := range domains {
		t.Domains = append(t.Domains, peer.Domain{Name: d, Via: sink.Addr(i)})
	}
	return peer.Site{Tenants: []peer.Tenant{t}}
}

// line is a run in one line, for the progress.
func (r run) line() string {
	s := fmt.Sprintf("%-22s accept %5.0f/s relay %5.0f/s  ack %6.2f/%6.1f ms  end %7.2f/%7.1f ms  CPU %.2f s/1000",
		r.Peer, r.Accept, r.Relay, r.Ack50, r.Ack99, r.End50, r.End99, r.CPU)
	if r.BrokerCPU > 0 {
		s += fmt.Sprintf("+%.2f", r.BrokerCPU)
	}
	s += fmt.Sprintf(" (load %.2f, others %.0f%%)  %.0f MB", r.LoadCPU, 100*r.Foreign, r.Memory)
	if r.Lost+r.Duplicates+r.Corrupt+r.Refused+r.Broken > 0 {
		s += fmt.Sprintf("  lost %d dup %d corrupt %d refused %d broken %d", r.Lost, r.Duplicates, r.Corrupt, r.Refused, r.Broken)
	}
	return s + "  " + r.At.Format(time.TimeOnly)
}
