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
	"path/filepath"

	"github.com/alecthomas/kong"

	"qstream/bus"
)

// Exit codes.
const (
	exitDone     = 0
	exitFailed   = 1
	exitUsage    = 2
	exitNotFound = 3
)

// failure is an error that ends the process with a code of its own.
type failure struct {
	error
	code int
}

func (f failure) Unwrap() error { return f.error }

// notFoundf is the error of a verb whose subject doesn't exist.
func notFoundf(format string, args ...any) error {
	return failure{fmt.Errorf(format, args...), exitNotFound}
}

// usagef is the error of a verb whose flags or arguments make no sense.
func usagef(format string, args ...any) error {
	return failure{fmt.Errorf(format, args...), exitUsage}
}

func main() {
	os.Exit(run(dropIn(os.Args), os.Stdin, os.Stdout, os.Stderr))
}

// dropIn turns the call of a program that qstream stands in for, by a link of
// its name, into the verb.
func dropIn(args []string) []string {
	switch name := filepath.Base(args[0]); name {
	case "qmail-queue", "qmail-qmqpc", "sendmail":
		return append([]string{name}, args[1:]...)
	case "mailq":
		return append([]string{"sendmail", "-bp"}, args[1:]...)
	case "newaliases":
		return append([]string{"sendmail", "-bi"}, args[1:]...)
	}
	return args[1:]
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
	return report(stderr, interrupted(ctx, parsed.Run(p, cli)))
}

// interrupted says of a verb that failed because of ctrl-c or SIGTERM that it
// was that, and nothing worse.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return fmt.Errorf("stopped by a signal before it was done: %w", err)
	}
	return err
}

// newParser makes the command line; exit is called by --help.
func newParser(cli *CLI, p *Process, exit func(int)) (*kong.Kong, error) {
	return kong.New(cli,
		kong.Name("qstream"),
		kong.Description("A mail transfer agent whose queue is Kafka."),
		kong.DefaultEnvars("QSTREAM"),
		kong.PostBuild(settingsOnly),
		kong.Configuration(loadSettings),
		durations(),
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
	if errors.Is(err, bus.ErrNoTopic) {
		fmt.Fprintln(stderr, "Topics that are missing are made by: qstream topics create")
	}
	if f := (failure{}); errors.As(err, &f) {
		return f.code
	}
	return exitFailed
}
