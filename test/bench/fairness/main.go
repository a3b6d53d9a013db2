// Command fairness measures what a noisy tenant does to a quiet one. Of each
// case the noise is accepted first; then a quiet tenant's mails, and those for
// a healthy destination of the noisy tenant, are handed in at a fixed rate and
// compared with the same before the noise, on the same instance. Postfix stands
// beside qstream in the same run, case by case.
//
// It exits with 1 where qstream's p99 leaves the bound of guarantee 7. It needs
// root, and Postfix installed.
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
	"qstream/test/rig"
)

// config is what the flags say.
type config struct {
	mails       int
	rate        float64
	rounds      int
	patience    time.Duration
	settle      time.Duration
	postfixMost int
	lock        string
	quiet       *load.Mails
	started     func(peer.Peer) // at the begin of a measured window; nil: nothing
	cases       []string
	peers       []string
	data, page  string
	add         bool
}

func main() {
	load.Main()
	if err := peer.Isolate(); err != nil {
		fmt.Fprintln(os.Stderr, "fairness:", err)
		os.Exit(1)
	}
	err := run()
	rig.Clean()
	if err != nil {
		fmt.Fprintln(os.Stderr, "fairness:", err)
		os.Exit(1)
	}
}

func flags() (config, error) {
	var cfg config
	var names []string
	for _, s := range scenes {
		names = append(names, s.Name)
	}
	cases := flag.String("cases", strings.Join(names, ","), "cases to measure; none: only the page is written")
	peers := flag.String("peers", "embedded,postfix", "of embedded, kafka1, kafka3 and postfix")
	flag.IntVar(&cfg.mails, "mails", 600, "quiet mails in a window")
	flag.Float64Var(&cfg.rate, "rate", 20, "quiet mails a second")
	flag.IntVar(&cfg.rounds, "rounds", 1, "trials of each case and peer")
	flag.DurationVar(&cfg.patience, "patience", 20*time.Second, "how long mails are waited for after a window")
	flag.DurationVar(&cfg.settle, "settle", 2*time.Second, "between the last accepted mail of the noise and the window")
	flag.IntVar(&cfg.postfixMost, "postfix-most", 25_000, "most mails of noise for Postfix, whose active queue holds 20,000; 0: as many as for qstream")
	flag.StringVar(&cfg.lock, "lock", "", "file whose lock is held during each window")
	flag.StringVar(&cfg.data, "data", "", "file of trials to add to; those of the same case and peer are replaced")
	flag.BoolVar(&cfg.add, "add", false, "leave those of the same case and peer in the file")
	flag.StringVar(&cfg.page, "page", "", "page whose section is written from the data")
	flag.Parse()
	cfg.cases, cfg.peers = fields(*cases), fields(*peers)
	for _, c := range cfg.cases {
		if !slices.Contains(names, c) {
			return cfg, fmt.Errorf("no case %q; there are %s", c, strings.Join(names, ", "))
		}
	}
	for _, p := range cfg.peers {
		if newPeer(p) == nil {
			return cfg, fmt.Errorf("no peer %q", p)
		}
	}
	return cfg, nil
}

func fields(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
}

func newPeer(name string) peer.Peer {
	switch name {
	case "postfix":
		return &peer.Postfix{}
	case peer.Embedded, peer.Kafka1, peer.Kafka3:
		return &peer.QStream{Broker: name}
	}
	return nil
}

func run() error {
	cfg, err := flags()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if _, err := rig.Binary(); err != nil {
		return err
	}
	cfg.quiet = load.NewMails(quietSize)
	all, err := readTrials(cfg.data)
	if err != nil {
		return err
	}
	if len(cfg.cases) == 0 {
		return writePage(cfg.page, all)
	}
	var left []error
	for _, s := range scenes {
		if !slices.Contains(cfg.cases, s.Name) {
			continue
		}
		fresh, err := measure(ctx, cfg, s)
		if !cfg.add {
			all = without(all, fresh)
		}
		all = append(all, fresh...)
		if err := errors.Join(err, writeTrials(cfg.data, all), writePage(cfg.page, all)); err != nil {
			return err
		}
		left = append(left, verdicts(fresh)...)
	}
	return errors.Join(left...)
}

// measure makes the trials of one case, the peers in turn.
func measure(ctx context.Context, cfg config, s scene) ([]Trial, error) {
	var all []Trial
	for range cfg.rounds {
		for _, name := range cfg.peers {
			if name == "postfix" && s.Replay > 0 { // it has no history
				continue
			}
			t, err := perform(ctx, cfg, s, newPeer(name))
			if err != nil {
				return all, fmt.Errorf("%s on %s: %w", s.Name, name, err)
			}
			fmt.Println(t)
			all = append(all, t)
		}
	}
	return all, nil
}
