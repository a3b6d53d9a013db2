// Program edge measures how fast the edge alone takes mail: its SMTP server on
// a bus that discards, with go-smtp's server in front of the same sessions
// beside it; and with policies on the embedded broker, with Postfix beside it,
// which puts all mail on hold and so does no more than take it.
//
// A round runs every server once, one after the other, and each round begins
// with another. Source and server share the machine, so that rates are this
// machine's at this hour; what carries over are ratios within a round, and the
// CPU time of the server for a thousand mails.
//
// It needs root, for namespaces and control groups, and Debian's Postfix; with
// -servers that leave postfix out, nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"qstream/test/bench/load"
	"qstream/test/bench/peer"
)

type options struct {
	servers              string
	rounds, mails        int
	sessions, size, warm int
	perConnection        int
	pipelining, pin      bool
}

func main() {
	if kind := os.Getenv(child); kind != "" {
		if err := serve(kind); err != nil {
			fmt.Fprintln(os.Stderr, "edge:", kind+":", err)
			os.Exit(1)
		}
		return
	}
	var o options
	flag.StringVar(&o.servers, "servers", strings.Join(kinds, ","), "what is measured, by commas")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds")
	flag.IntVar(&o.mails, "mails", 10000, "mails of a run")
	flag.IntVar(&o.warm, "warm", 1000, "mails before those that are measured")
	flag.IntVar(&o.sessions, "sessions", 50, "sessions at once")
	flag.IntVar(&o.size, "size", 10<<10, "octets of a mail")
	flag.IntVar(&o.perConnection, "per-connection", 10, "mails on a connection (-1: no limit)")
	flag.BoolVar(&o.pipelining, "pipelining", false, "let the source pipeline")
	flag.BoolVar(&o.pin, "pin", false, "give servers the first processor alone, and the source the others: what is measured is the server; not for postfix's many processes")
	flag.Parse()
	if err := o.run(); err != nil {
		fmt.Fprintln(os.Stderr, "edge:", err)
		os.Exit(1)
	}
}

// run is what one server did in one round.
type run struct {
	rate, cpu float64 // mails a second; seconds for 1,000 mails
	ack       time.Duration
}

func (o *options) run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	names := strings.Split(o.servers, ",")
	for _, n := range names {
		if !slices.Contains(kinds, n) {
			return fmt.Errorf("-servers: there is no %q; there are %s", n, strings.Join(kinds, ", "))
		}
	}
	if slices.Contains(names, postfix) {
		if err := peer.Isolate(); err != nil {
			return err
		}
	}
	if o.pin {
		if slices.Contains(names, postfix) {
			return errors.New("-pin: not with postfix; leave it out of -servers")
		}
		if err := keepOffFirst(); err != nil {
			return err
		}
	}
	contents := load.NewMails(o.size)
	all := map[string][]run{}
	for round := range o.rounds {
		for i := range names {
			name := names[(round+i)%len(names)]
			r, err := o.measure(ctx, name, contents)
			if err != nil {
				return fmt.Errorf("%s, round %d: %w", name, round+1, err)
			}
			all[name] = append(all[name], r)
			fmt.Fprintf(os.Stderr, "round %d  %-18s %6.0f/s  ack %6.2f ms  CPU %.3f s/1000\n",
				round+1, name, r.rate, float64(r.ack.Microseconds())/1000, r.cpu)
		}
	}
	fmt.Print(table(names, all))
	return nil
}

// measure starts a server, warms it up, hands mail in and stops it.
func (o *options) measure(ctx context.Context, name string, contents *load.Mails) (r run, err error) {
	s, err := start(ctx, name, o.pin)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	source := func() *load.Source {
		return &load.Source{
			Addr: s.addr, Domains: []string{"acme.example"}, Mails: contents, Sessions: o.sessions,
			PerConnection: o.perConnection, Pipelining: o.pipelining,
		}
	}
	if _, err := hand(ctx, source(), o.warm); err != nil {
		return r, fmt.Errorf("warm-up: %w", err)
	}
	before, err := s.cpu()
	if err != nil {
		return r, err
	}
	t, err := hand(ctx, source(), o.mails)
	if err != nil {
		return r, err
	}
	after, err := s.cpu()
	if err != nil {
		return r, err
	}
	return run{t.AcceptRate(), (after - before).Seconds() * 1000 / float64(o.mails), t.Ack.Quantile(0.5)}, nil
}

// hand hands in n mails, every one of which must be taken.
func hand(ctx context.Context, s *load.Source, n int) (load.Tally, error) {
	sent, err := s.Run(ctx, n)
	if err != nil {
		return load.Tally{}, err
	}
	t := load.Count(sent, nil)
	if t.Accepted != n {
		return t, fmt.Errorf("%d of %d were taken, %d connections broke: %v", t.Accepted, n, sent.Failed, sent.Err)
	}
	return t, ctx.Err()
}

// pairs are the comparisons: the first measured in parts of the second.
var pairs = [][2]string{
	{plain, goSMTP}, {policies, goSMTP}, {policies, plain},
	{embeddedPlain, postfix}, {embeddedPolicies, postfix}, {embeddedPolicies, embeddedPlain},
}

// table is all rounds as Markdown: medians, least and most.
func table(names []string, all map[string][]run) string {
	var b strings.Builder
	b.WriteString("\n| server | rounds | accept /s | ack p50 ms | CPU s per 1,000 |\n|---|---|---|---|---|\n")
	for _, n := range names {
		rate := func(r run) float64 { return r.rate }
		ack := func(r run) float64 { return float64(r.ack.Microseconds()) / 1000 }
		cpu := func(r run) float64 { return r.cpu }
		fmt.Fprintf(&b, "| %s | %d | %s | %s | %s |\n", n, len(all[n]), spread(all[n], rate, "%.0f"), spread(all[n], ack, "%.2f"), spread(all[n], cpu, "%.3f"))
	}
	b.WriteString("\n| in one round | accept, ratio | CPU, ratio |\n|---|---|---|\n")
	for _, p := range pairs {
		a, c := all[p[0]], all[p[1]]
		if len(a) == 0 || len(a) != len(c) {
			continue
		}
		ratios := make([]run, len(a))
		for i := range a {
			ratios[i] = run{rate: a[i].rate / c[i].rate, cpu: a[i].cpu / c[i].cpu}
		}
		fmt.Fprintf(&b, "| %s to %s | %s | %s |\n", p[0], p[1],
			spread(ratios, func(r run) float64 { return r.rate }, "%.2f"), spread(ratios, func(r run) float64 { return r.cpu }, "%.2f"))
	}
	return b.String()
}

// spread is the median with the least and the most.
func spread(rs []run, of func(run) float64, verb string) string {
	vs := make([]float64, len(rs))
	for i, r := range rs {
		vs[i] = of(r)
	}
	slices.Sort(vs)
	return fmt.Sprintf(verb+" ("+verb+"-"+verb+")", (vs[(len(vs)-1)/2]+vs[len(vs)/2])/2, vs[0], vs[len(vs)-1])
}
