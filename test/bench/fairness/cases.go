package main

import (
	"fmt"
	"strings"
	"time"

	"qstream/test/bench/load"
	"qstream/test/bench/peer"
	"qstream/test/fakeclamd"
)

// Size of a quiet mail, and of one of a flood unless the case says another.
const (
	quietSize = 10 << 10
	floodSize = 2 << 10
)

// scene is one case: what the noisy tenant hands in, and how its hosts take
// it.
type scene struct {
	Name     string
	What     string       // how it is built, for the page
	Hosts    int          // of the noise, each a destination; 1 for many
	Profile  load.Profile // of each of them
	Mails    int
	OnDisk   int // fewer mails on the embedded broker, whose size is capped, and on Postfix beside it
	Size     int
	Sessions int
	Shared   bool // both tenants on one queue
	Many     int  // destinations by MX records that all lead to the one host
	// Scan is what the scan of a noisy mail takes, if it is scanned; that of a
	// quiet one then takes quickScan, and the healthy destination is that of a
	// third tenant whose mail isn't scanned.
	Scan   time.Duration
	Replay int // of the noise, which is all delivered before the windows, one in so many is replayed again and again in the noisy one
}

// quickScan is what an engine takes that isn't slow.
const quickScan = time.Millisecond

// scenes are all cases.
var scenes = []scene{
	{
		Name: "hang-1", Hosts: 1, Profile: load.Profile{Hang: true}, Mails: 2000,
		What: "2,000 mails to one destination that takes connections and never says a word",
	},
	{
		Name: "hang-10", Hosts: 10, Profile: load.Profile{Hang: true}, Mails: 2000,
		What: "2,000 mails to ten such destinations",
	},
	{
		Name: "hang-25", Hosts: 25, Profile: load.Profile{Hang: true}, Mails: 2000,
		What: "2,000 mails to 25 such destinations",
	},
	{
		Name: "hang-25-dot", Hosts: 25, Profile: load.Profile{Data: time.Hour}, Mails: 2000,
		What: "2,000 mails to 25 destinations that take the content and never answer the final dot",
	},
	{
		Name: "flood-20k", Hosts: 1, Profile: load.Profile{Data: time.Second}, Mails: 20_000,
		What: "20,000 mails to one destination that needs a second for each",
	},
	{
		Name: "flood-200k", Hosts: 1, Profile: load.Profile{Data: time.Second}, Mails: 200_000,
		What: "200,000 mails to such a destination",
	},
	{
		Name: "burst-100k", Hosts: 1, Profile: load.Profile{Data: 100 * time.Millisecond}, Mails: 100_000,
		What: "100,000 mails as fast as they are taken, to one destination that needs 0.1 s for each: about 200 a second go on while it is measured",
	},
	{
		Name: "large", Hosts: 1, Profile: load.Profile{Rate: 1 << 20}, Mails: 200, OnDisk: 20, Size: 52_400_000, Sessions: 4,
		What: "mails of 50 MiB (200 on Kafka, 20 on the embedded broker), to one destination that takes 1 MiB/s on each connection",
	},
	{
		Name: "many-50k", Hosts: 1, Profile: load.Profile{Data: time.Second}, Mails: 50_000, Many: 50_000, Shared: true,
		What: "50,000 mails to as many destinations by MX records, whose host needs a second for each; both tenants are on one queue and worker",
	},
	{
		Name: "scan-1000x", Hosts: 1, Mails: 5000, Scan: 1000 * quickScan,
		What: "5,000 mails whose scan takes a second each; that of the quiet tenant's takes a millisecond, and the healthy destination is that of a third tenant without scanning. Not for Postfix",
	},
	{
		Name: "replay", Hosts: 1, Mails: 100_000, Replay: 1000,
		What: "100,000 mails are delivered before both runs; in the noisy one `replay list` and `replay redeliver` go on by turns that select 100 of them by recipient and outcome",
	},
}

func init() {
	for i := range scenes {
		s := &scenes[i]
		if s.Size == 0 {
			s.Size = floodSize
		}
		if s.Sessions == 0 {
			s.Sessions = 20
		}
	}
}

// fits reports whether a peer can do what the case is about.
func (s scene) fits(p peer.Peer) bool {
	_, scans := p.(*peer.QStream)
	return scans || s.Scan == 0 && s.Replay == 0
}

// count is how many mails make the noise on a peer.
func (s scene) count(p peer.Peer, atMost int) int {
	n := s.Mails
	switch q, ok := p.(*peer.QStream); {
	case s.OnDisk > 0 && (!ok || q.Broker == "" || q.Broker == peer.Embedded):
		n = s.OnDisk
	case !ok && atMost > 0:
		n = min(n, atMost)
	}
	return n
}

// Hosts of the sink by number: the first two are fast.
const (
	quietHost   = 0
	healthyHost = 1
	noiseHost   = 2
)

const (
	quietDomain   = "quiet.example"
	healthyDomain = "healthy.noisy.example"
)

// hosts are those of the sink.
func (s scene) hosts() []load.Host {
	hs := []load.Host{{IP: "127.0.1.1"}, {IP: "127.0.1.2"}}
	for i := range s.Hosts {
		h := load.Host{IP: fmt.Sprintf("127.0.2.%d", i+1), Profile: s.Profile}
		if s.Many > 0 {
			h.Port = 25
		}
		hs = append(hs, h)
	}
	return hs
}

// domains are where the noise goes.
func (s scene) domains() []string {
	n, name := s.Hosts, "d%d.noisy.example"
	switch {
	case s.Many > 0:
		n, name = s.Many, "d%d.many.example"
	case s.Replay > 0:
		n, name = s.Replay, "d%d.past.example"
	}
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf(name, i)
	}
	return all
}

// zone is what the name service says of these domains.
func (s scene) zone() string {
	var b strings.Builder
	for _, d := range s.domains() {
		fmt.Fprintf(&b, "%s. 3600 IN MX 10 mx.many.example.\n", d)
	}
	b.WriteString("mx.many.example. 3600 IN A 127.0.2.1\n")
	return b.String()
}

// site is what a peer relays in this case.
func (s scene) site(sink *load.Sink, e *engines) peer.Site {
	quiet := peer.Tenant{Name: "quiet", Domains: []peer.Domain{{Name: quietDomain, Via: sink.Addr(quietHost)}}}
	noisy := peer.Tenant{Name: "noisy", Domains: []peer.Domain{{Name: healthyDomain, Via: sink.Addr(healthyHost)}}}
	switch {
	case s.Many > 0:
		noisy.Domains = append(noisy.Domains, peer.Domain{Name: ".many.example", Via: "mx"})
	case s.Replay > 0:
		noisy.Domains = append(noisy.Domains, peer.Domain{Name: ".past.example", Via: sink.Addr(noiseHost)})
	default:
		for i, d := range s.domains() {
			noisy.Domains = append(noisy.Domains, peer.Domain{Name: d, Via: sink.Addr(noiseHost + i)})
		}
	}
	if s.Shared {
		quiet.Queue, noisy.Queue = "both", "both"
	}
	if s.Scan > 0 {
		plain := peer.Tenant{Name: "plain", Domains: noisy.Domains[:1]}
		noisy.Domains, noisy.Clamd, quiet.Clamd = noisy.Domains[1:], e.slow.Addr(), e.quick.Addr()
		return peer.Site{Tenants: []peer.Tenant{quiet, noisy, plain}}
	}
	return peer.Site{Tenants: []peer.Tenant{quiet, noisy}}
}

// engines are those that scan, in cases that have them.
type engines struct{ quick, slow *fakeclamd.Server }

func (s scene) engines() (*engines, error) {
	e := &engines{}
	if s.Scan == 0 {
		return e, nil
	}
	var err error
	if e.quick, err = fakeclamd.Start(); err != nil {
		return e, err
	}
	e.quick.Feel(fakeclamd.Mood{Slow: quickScan})
	if e.slow, err = fakeclamd.Start(); err != nil {
		return e, err
	}
	e.slow.Feel(fakeclamd.Mood{Slow: s.Scan})
	return e, nil
}

func (e *engines) close() {
	for _, c := range []*fakeclamd.Server{e.quick, e.slow} {
		if c != nil {
			c.Down()
		}
	}
}
