// Command qstream is a mail transfer agent whose queue is Kafka: one binary
// with a verb for each role, one that runs them all, and the verbs of a
// postmaster.
//
// It is the only place with flags, environment, signals and exit codes; a
// verb's file parses flags, calls one package and prints.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/alecthomas/kong"
)

// Exit codes.
const (
	exitDone     = 0
	exitFailed   = 1
	exitUsage    = 2
	exitNotFound = 3
)

// ErrNotFound is wrapped by a verb whose subject doesn't exist: exit code 3.
var ErrNotFound = errors.New("not found")

// ErrUsage is wrapped by a verb whose flags contradict each other: exit code 2.
var ErrUsage = errors.New("usage")

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is main without the process: it parses, runs one verb and says how it
// ended.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	p, err := newProcess(stdin, stdout, stderr)
	if err != nil {
		return report(stderr, err)
	}
	exit := -1
	cli := &CLI{}
	parser, err := newParser(cli, p, func(code int) { exit = code })
	if err != nil {
		return report(stderr, err)
	}
	parsed, err := parser.Parse(args)
	if exit >= 0 { // --help has printed and wants to leave
		return exit
	}
	if err != nil {
		return usage(stderr, err)
	}
	ctx, stop := signals()
	defer stop()
	parsed.BindTo(ctx, (*context.Context)(nil))
	return report(stderr, parsed.Run(p, cli))
}

// newParser makes the command line; exit is called by --help.
func newParser(cli *CLI, p *Process, exit func(int)) (*kong.Kong, error) {
	return kong.New(cli,
		kong.Name("qstream"),
		kong.Description("A mail transfer agent whose queue is Kafka."),
		kong.DefaultEnvars("QSTREAM"),
		kong.Configuration(loadSettings),
		kong.Writers(p.Stdout, p.Stderr),
		kong.Exit(exit),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Vars{"version": version(), "data": defaultData},
	)
}

// usage reports a command line that can't be parsed.
func usage(stderr io.Writer, err error) int {
	fmt.Fprintf(stderr, "qstream: %v\n", err)
	var parse *kong.ParseError
	if errors.As(err, &parse) && parse.Context != nil {
		if node := parse.Context.Selected(); node != nil {
			fmt.Fprintf(stderr, "See: qstream %s --help\n", node.Path())
		} else {
			fmt.Fprintln(stderr, "See: qstream --help")
		}
	}
	return exitUsage
}

// report prints how a verb failed and returns its exit code.
func report(stderr io.Writer, err error) int {
	if err == nil {
		return exitDone
	}
	fmt.Fprintf(stderr, "qstream: %v\n", err)
	switch {
	case errors.Is(err, ErrNotFound):
		return exitNotFound
	case errors.Is(err, ErrUsage):
		return exitUsage
	default:
		return exitFailed
	}
}
