package main

import (
	"context"
	"errors"
	"time"

	"qstream/deliver"
	"qstream/transport/resolver"
	"qstream/transport/schemes"
	"qstream/transport/smtp"
)

// deliverCmd runs deliver alone.
type deliverCmd struct {
	roleFlags
	deliverFlags
	dnsFlags
}

// dnsFlags are whom those ask who look names up.
type dnsFlags struct {
	DNS []string `name:"dns" placeholder:"HOST:PORT" help:"DNS servers (default: those of /etc/resolv.conf)."`
}

func (f dnsFlags) resolver(g ground) (*resolver.Resolver, error) {
	return resolver.New(resolver.Config{Servers: f.DNS, Now: g.now})
}

// deliverFlags are deliver's settings.
type deliverFlags struct {
	Pools      []string      `placeholder:"POOL" help:"Pools whose queues are delivered (default: the pool named default; in up: every pool)."`
	Me         string        `placeholder:"NAME" help:"Our name where neither queue nor site says one (default: the host's)."`
	Own        []string      `placeholder:"NAME" help:"Further names and addresses of this system, to recognise loops of MX records."`
	Drain      time.Duration `placeholder:"TIME" help:"How long begun attempts may go on at a stop (default: 45s)."`
	DelayAfter time.Duration `placeholder:"TIME" help:"Age at which a sender is told that his mail is late (default: 4h)."`
	Attempts   int           `placeholder:"N" help:"Most attempts at once in this process (default: 1000)."`
	sendFlags

	all bool // every pool that the directory names, instead of Pools
}

// sendFlags are those of the SMTP and LMTP clients. Mail that meets a limit
// is tried again.
type sendFlags struct {
	NoSTARTTLS      bool          `name:"no-starttls" help:"Never encrypt, whatever a host offers."`
	ConnectTimeout  time.Duration `placeholder:"TIME" help:"Longest wait for a connection (default: 30s)."`
	GreetingTimeout time.Duration `placeholder:"TIME" help:"Longest wait for a host's first reply (default: 5m)."`
	ReplyTimeout    time.Duration `placeholder:"TIME" help:"Longest wait for the reply to EHLO, MAIL or RCPT (default: 5m)."`
	DotTimeout      time.Duration `placeholder:"TIME" help:"Longest wait for the reply to a message; shorter makes duplicates (default: 10m)."`
	SendRate        int64         `placeholder:"OCTETS" help:"Slowest content that a host may take, in octets a second (default: 4096)."`
	MaxHosts        int           `placeholder:"N" help:"Most addresses tried in one attempt (default: 5)."`
	Reuse           time.Duration `placeholder:"TIME" help:"How long a connection is kept for the next message, -1s for not at all (default: 5s)."`
}

func (f sendFlags) config() smtp.Config {
	return smtp.Config{
		NoTLS: f.NoSTARTTLS, MinRate: f.SendRate, MaxHosts: f.MaxHosts, Idle: f.Reuse,
		Timeouts: smtp.Timeouts{
			Connect: f.ConnectTimeout, Greeting: f.GreetingTimeout, Command: f.ReplyTimeout, Dot: f.DotTimeout,
		},
	}
}

func (c *deliverCmd) Run(ctx context.Context, p *Process) error {
	return c.run(ctx, p, c.deliverFlags.role(c.dnsFlags))
}
func (c *deliverCmd) check(p *Process) error { return c.checkRoles(p, c.deliverFlags.role(c.dnsFlags)) }

func (f deliverFlags) role(d dnsFlags) role {
	return role{"deliver", func(g ground) (stage, error) {
		r, err := d.resolver(g)
		if err != nil {
			return nil, err
		}
		transports, err := schemes.New(schemes.Config{Resolver: r, SMTP: f.sendFlags.config()})
		if err != nil {
			return nil, err
		}
		s, err := deliver.New(f.config(), deliver.Deps{
			Bus: g.bus, Directory: g.directory, Control: g.control, Transport: transports,
			Log: g.log, Metrics: g.metrics, Now: g.now, Failpoint: g.failpoint,
		})
		if err != nil {
			return nil, errors.Join(err, transports.Close())
		}
		return closing{s, transports.Close}, nil
	}}
}

func (f deliverFlags) config() deliver.Config {
	return deliver.Config{
		Pools: f.Pools, AllPools: f.all, Me: f.Me, Own: f.Own, Drain: f.Drain, DelayAfter: f.DelayAfter,
		Scheduler: deliver.SchedulerConfig{Slots: f.Attempts},
	}
}

// closing is a stage that lets go of something when it has ended.
type closing struct {
	stage
	close func() error
}

func (c closing) Run(ctx context.Context) error {
	return errors.Join(c.stage.Run(ctx), c.close())
}
