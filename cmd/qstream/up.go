package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"qstream/bus"
	"qstream/bus/dirlock"
	"qstream/bus/embedded"
	"qstream/directory"
	"qstream/scanner"
	"qstream/schemas"
)

// upCmd runs every role in one process, with the constructors of the single
// roles and nothing extra.
type upCmd struct {
	Broker       `embed:""`
	ingestFlags  `embed:""`
	deliverFlags `embed:""`
	dnsFlags     `embed:""`
	askFlags     `embed:""`
	scanFlags    `embed:""`
	tapFlags     `embed:""`
	Data         string   `placeholder:"DIR" type:"path" default:"${data}" help:"Keep everything here (default: ${data} in the working directory)."`
	MaxData      int64    `placeholder:"OCTETS" default:"2147483648" help:"Refuse new mail, for the time being, while the embedded broker's data take more (default: ${default})."`
	QMQP         string   `name:"qmqp" placeholder:"ADDR" default:"127.0.0.1:2628" help:"Serve QMQP here, to clients that may relay (default: ${default}); empty: nowhere."`
	QMTP         string   `name:"qmtp" placeholder:"ADDR" default:"127.0.0.1:2209" help:"Serve QMTP here (default: ${default}); empty: nowhere."`
	HTTP         string   `name:"http" placeholder:"ADDR" default:"127.0.0.1:8025" help:"Serve health, metrics and, for programs of this host, POST /v1/messages here (default: ${default}); empty: nowhere."`
	Apply        []string `placeholder:"FILE" type:"existingfile" help:"Directory documents to apply at the start."`
}

// leastData is room for what the system writes by itself and some large mails.
const leastData = 256 << 20

func (c *upCmd) Run(ctx context.Context, p *Process) error {
	if c.MaxData < leastData {
		return usagef("--max-data %d: at least %d", c.MaxData, leastData)
	}
	dir, err := openData(c.Data)
	if err != nil {
		return err
	}
	defer dir.close()
	if len(c.Kafka) > 0 {
		cfg, err := c.Broker.config()
		if err != nil {
			return err
		}
		return c.live(ctx, p, dir, cfg, nil)
	}
	b, err := embedded.Start(embedded.Config{Dir: dir.path, MaxBytes: c.MaxData, SlowSync: p.SlowSync, Log: p.Log, Fail: func(err error) {
		p.Log.Error("embedded broker ends the process", "err", err)
		os.Exit(1)
	}})
	if err != nil {
		return err
	}
	cfg := bus.Config{Seeds: []string{b.Addr()}, Dial: b.Dial, Barrier: b.Barrier, Lost: b.Lost, Admit: b.Admit, Spent: b.Spent}
	err = c.live(ctx, p, dir, cfg, b)
	return errors.Join(err, b.Close())
}

// live is what stands between the broker's start and its end; own is the
// embedded broker, nil on a cluster.
func (c *upCmd) live(ctx context.Context, p *Process, dir *data, cfg bus.Config, own *embedded.Broker) error {
	s, err := newShell(p, cfg, c.HTTP)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.await(ctx); err != nil {
		return err
	}
	snapshot, err := c.prepare(ctx, s.bus, dir.path)
	if err != nil {
		return err
	}
	if err := s.verify(ctx, append(schemas.FixedTopics(), snapshot.Topics(receivedKept())...)); err != nil {
		return err
	}
	if own != nil {
		c.keeps = own.Keeps
	}
	roles := c.roles()
	if own != nil {
		s.health.add("storage", own.Admit)
		if err := own.Admit(); err != nil {
			p.Log.Warn("no new mail is taken until there is room", "err", err)
		}
		roles = append(roles, keepRole(own))
	}
	err = s.live(ctx, roles, func(stages []stage) error {
		r := Running{
			PID: os.Getpid(), Kafka: cfg.Seeds, HTTP: s.web.addr(), SMTP: served(stages, "smtp"),
			QMQP: served(stages, "qmqp"), QMTP: served(stages, "qmtp"), QMTPS: served(stages, "qmtps"),
			Submission: served(stages, "submission"), Submissions: served(stages, "submissions"),
			HTTPSubmission: served(stages, "http"), Data: dir.path, Embedded: own != nil,
		}
		s.web.tell(r)
		s.web.submit(stages)
		if err := dir.announce(r); err != nil {
			return err
		}
		return c.banner(p.Stdout, r, snapshot)
	})
	return errors.Join(err, dir.forget())
}

// roles are all there are, in the order of their start. Scanner and deliver work
// for every pool, unless --pools names some.
func (c *upCmd) roles() []role {
	f := c.deliverFlags
	f.all = len(f.Pools) == 0
	scans := c.scanFlags.role(scanner.Config{Pools: f.Pools, AllPools: f.all})
	return []role{
		c.askFlags.role(filepath.Join(c.Data, "ledger")), routerRole(), scans, f.role(c.dnsFlags), delayRole(), c.tapFlags.role(),
		c.ingestFlags.role(c.dnsFlags, c.QMQP, c.QMTP),
	}
}

// prepare makes the topics and fills the directory: with the files given, or
// if it is empty with one that delivers everything into a local inbox.
func (c *upCmd) prepare(ctx context.Context, b *bus.Bus, dir string) (*directory.Snapshot, error) {
	if _, err := b.CreateTopics(ctx, schemas.FixedTopics(), bus.CreateOptions{}); err != nil {
		return nil, err
	}
	head, err := directory.Apply(ctx, b, directory.Change{}, directory.Options{DryRun: true})
	if err != nil {
		return nil, fmt.Errorf("read the directory: %w", err)
	}
	files, err := c.documents(dir, head.Before.Number == 0)
	if err != nil {
		return nil, err
	}
	docs, err := directory.Parse(files...)
	if err != nil {
		return nil, err
	}
	done, err := directory.Apply(ctx, b, directory.Change{Documents: docs}, directory.Options{Actor: "up", Note: "applied at the start"})
	if err != nil {
		return nil, fmt.Errorf("apply: %w", err)
	}
	if _, err := b.CreateTopics(ctx, done.After.Topics(receivedKept()), bus.CreateOptions{}); err != nil {
		return nil, err
	}
	return done.After, nil
}

// documents are the files of --apply, or for a directory that is empty the
// one for trying out.
func (c *upCmd) documents(dir string, empty bool) ([]directory.File, error) {
	if len(c.Apply) == 0 {
		if !empty {
			return nil, nil
		}
		return []directory.File{{Name: "built-in", Data: []byte(tryOut(dir))}}, nil
	}
	var files []directory.File
	for _, name := range c.Apply {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("--apply: %w", err)
		}
		files = append(files, directory.File{Name: name, Data: text})
	}
	return files, nil
}

// tryOut is the directory of who gave none: mail of this host's programs, for
// whatever domain, ends in a Maildir below the data directory, and nothing
// goes to the Internet.
func tryOut(dir string) string {
	return fmt.Sprintf(`kind: tenant
name: local
domains: ["*"]
networks: [127.0.0.0/8, "::1/128"]
queue: local
---
kind: queue
name: local
---
kind: route
name: inbox
match: {domain: "*"}
via: %q
`, "maildir:"+filepath.Join(dir, "inbox"))
}

// data is the data directory of this process.
type data struct {
	path string
	lock *dirlock.Lock
}

// openData makes the directory and takes it for this process alone.
func openData(path string) (*data, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("--data: %w", err)
	}
	lock, err := dirlock.Take(filepath.Join(path, "up.lock"))
	switch {
	case errors.Is(err, dirlock.ErrTaken):
		if r, err := findByData(path); err == nil {
			return nil, fmt.Errorf("another qstream (process %d) runs on %s; stop it, or choose another --data", r.PID, path)
		}
		return nil, fmt.Errorf("another qstream runs on %s; stop it, or choose another --data", path)
	case err != nil:
		return nil, fmt.Errorf("--data: %w", err)
	}
	return &data{path: path, lock: lock}, nil
}

// close lets the directory go.
func (d *data) close() { _ = d.lock.LetGo() }

// announce writes what verbs need to find the system.
func (d *data) announce(r Running) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	partial := runFile(d.path) + ".partial"
	if err := os.WriteFile(partial, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("write run.json: %w", err)
	}
	return os.Rename(partial, runFile(d.path))
}

// forget takes back what announce wrote.
func (d *data) forget() error {
	err := os.Remove(runFile(d.path))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
