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
)

// child says to a process of this program that it is the readers: brokers, topics
// that are read, and addresses of endpoints, each parted by commas.
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
	var lists [3][]string
	for i, text := range strings.Split(spec, " ") {
		lists[i] = strings.FieldsFunc(text, func(r rune) bool { return r == ',' })
	}
	b, err := bus.Dial(bus.Config{Seeds: lists[0]})
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
	for i, topic := range lists[1] {
		f := b.Follow([]string{topic}, bus.Start{}, func(bus.Record) error { read.Add(1); return nil })
		running.Go(func() {
			if err := f.Run(ctx); err != nil {
				fmt.Fprintln(os.Stderr, "reader", i, err)
			}
		})
	}
	for _, addr := range lists[2] {
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

func startReaders(p parts, seeds, addrs []string) (*readers, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	r := &readers{cmd: exec.Command(self)}
	spec := strings.Join(seeds, ",") + " " + strings.Join(p.readers, ",") + " " + strings.Join(addrs, ",")
	r.cmd.Env = append(os.Environ(), child+"="+spec)
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

// posted waits until there were so many posts, and says how long that took.
func (r *readers) posted(n int) (time.Duration, error) {
	for began := time.Now(); r != nil; time.Sleep(50 * time.Millisecond) {
		t, err := r.told()
		if err != nil || t.Posts >= n {
			return time.Since(began), err
		}
		if time.Since(began) > lagging {
			return 0, fmt.Errorf("%d posts, %d expected", t.Posts, n)
		}
	}
	return 0, nil
}

func (r *readers) stop() {
	_ = r.in.Close()
	_ = r.cmd.Wait()
}
