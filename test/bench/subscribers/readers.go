package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"qstream/bus"
	"qstream/schemas"
)

// child says to a process of this program that it is the readers: brokers, and
// the addresses of endpoints.
const child = "QSTREAM_BENCH_READERS"

// told is what the readers did and used.
type told struct {
	Read  int64
	Posts int
	CPU   time.Duration
}

// readersMain makes the process the readers, if it is started as that.
func readersMain() {
	spec := os.Getenv(child)
	if spec == "" {
		return
	}
	if err := serveReaders(spec); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func serveReaders(spec string) error {
	seeds, addrs, _ := strings.Cut(spec, " ")
	b, err := bus.Dial(bus.Config{Seeds: strings.Split(seeds, ",")})
	if err != nil {
		return err
	}
	defer b.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var read, posts atomic.Int64
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	for i, topic := range []string{
		schemas.Received, schemas.Received, schemas.Received, schemas.Events, schemas.Events, schemas.Events, schemas.Events,
	} {
		f := b.Follow([]string{topic}, bus.Start{}, func(bus.Record) error { read.Add(1); return nil })
		running.Go(func() {
			if err := f.Run(ctx); err != nil {
				fmt.Fprintln(os.Stderr, "reader", i, err)
			}
		})
	}
	for addr := range strings.FieldsSeq(addrs) {
		s := &http.Server{Addr: addr, ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			posts.Add(1)
			w.WriteHeader(http.StatusNoContent)
		})}
		go func() { _ = s.ListenAndServe() }()
		defer s.Close()
	}
	out := json.NewEncoder(os.Stdout)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			return err
		}
		cpu := time.Duration(u.Utime.Nano() + u.Stime.Nano())
		if err := out.Encode(told{read.Load(), int(posts.Load()), cpu}); err != nil {
			return err
		}
	}
	return nil
}

// readers is the process that reads and takes posts.
type readers struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

func startReaders(seeds, addrs []string) (*readers, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	r := &readers{cmd: exec.Command(self)}
	r.cmd.Env = append(os.Environ(), child+"="+strings.Join(seeds, ",")+" "+strings.Join(addrs, " "))
	r.cmd.Stderr = os.Stderr
	if r.in, err = r.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	r.out = json.NewDecoder(out)
	return r, r.cmd.Start()
}

// told asks what they did so far; without readers nothing.
func (r *readers) told() (t told, err error) {
	if r == nil {
		return t, nil
	}
	if _, err := io.WriteString(r.in, "\n"); err != nil {
		return t, err
	}
	return t, r.out.Decode(&t)
}

func (r *readers) stop() {
	_ = r.in.Close()
	_ = r.cmd.Wait()
}
