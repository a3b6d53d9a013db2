package main

import (
	"context"
	"fmt"

	"github.com/alecthomas/kong"

	"qstream/control"
	"qstream/directory"
)

// checkCmd makes what a verb would run, and starts nothing: no broker is
// asked, no port is opened.
type checkCmd struct {
	Command []string `arg:"" optional:"" passthrough:"" help:"The role's verb with its flags, as it would be run (default: up)."`
}

// checkable is a verb that runs roles.
type checkable interface {
	check(p *Process) error
}

func (c *checkCmd) Run(_ context.Context, p *Process, cli *CLI) error {
	args := c.Command
	if len(args) == 0 {
		args = []string{"up"}
	}
	if cli.Settings != "" {
		args = append(args, "--config", string(cli.Settings))
	}
	parser, err := newParser(&CLI{}, p, func(int) {})
	if err != nil {
		return err
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		return usagef("%w", err)
	}
	verb, ok := target(parsed).(checkable)
	if !ok {
		return usagef("%s runs no role", parsed.Command())
	}
	if err := verb.check(p); err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.Stdout, "%s: ok\n", parsed.Command())
	return err
}

// target is the struct of the verb that was parsed.
func target(parsed *kong.Context) any {
	node := parsed.Selected()
	if node == nil || !node.Target.CanAddr() {
		return nil
	}
	return node.Target.Addr().Interface()
}

func (f *roleFlags) checkRoles(p *Process, roles ...role) error {
	if len(f.Kafka) == 0 {
		return errNoKafka
	}
	cfg, err := f.Broker.config()
	if err != nil {
		return err
	}
	s, err := newShell(p, cfg, "")
	if err != nil {
		return err
	}
	defer s.close()
	_, err = makeStages(s.ground(directory.Follow(s.bus), control.Follow(s.bus, nil)), roles)
	return err
}

// check also reads the documents of --apply.
func (c *upCmd) check(p *Process) error {
	files, err := c.documents(c.Data, true)
	if err != nil {
		return err
	}
	docs, err := directory.Parse(files...)
	if err != nil {
		return err
	}
	if _, err := directory.Build(docs); err != nil {
		return err
	}
	seeds := c.Kafka
	if len(seeds) == 0 {
		seeds = []string{"127.0.0.1:9092"} // the embedded broker's, which isn't started
	}
	f := roleFlags{Broker: c.Broker}
	f.Kafka = seeds
	return f.checkRoles(p, c.roles()...)
}
