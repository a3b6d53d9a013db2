// Command cluster runs Apache Kafka on loopback and tells the tests where:
//
//	go run ./test/kafka/cluster -brokers 3 -- go test ./bus/...
//
// runs the command with QSTREAM_TEST_KAFKA set and exits as it did. Without a
// command it prints the setting and serves until ctrl-c.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"qstream/test/kafka"
)

func main() {
	var o kafka.Options
	flag.IntVar(&o.Brokers, "brokers", 1, "how many brokers, 1 or 3")
	flag.StringVar(&o.Dir, "dir", "", "keep data here (default: a temporary folder)")
	flag.StringVar(&o.Heap, "heap", "", "heap of each broker (default 384m)")
	install := flag.Bool("install", false, "only install Kafka and print where")
	flag.Parse()
	code, err := run(o, *install, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
	}
	os.Exit(code)
}

func run(o kafka.Options, install bool, command []string) (int, error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if install {
		libs, err := kafka.Install(ctx)
		if err != nil {
			return 1, err
		}
		fmt.Println(libs)
		return 0, nil
	}
	c, err := kafka.Start(ctx, o)
	if err != nil {
		return 1, err
	}
	setting := "QSTREAM_TEST_KAFKA=" + strings.Join(c.Seeds(), ",")
	if len(command) == 0 {
		fmt.Println(setting)
		<-ctx.Done()
		return 0, c.Stop()
	}
	code, err := child(ctx, command, setting)
	return code, errors.Join(err, c.Stop())
}

// child runs a command with the setting and returns its exit code.
func child(ctx context.Context, command []string, setting string) (int, error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append(os.Environ(), setting)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() >= 0 {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 1, err
	}
	return 0, nil
}
