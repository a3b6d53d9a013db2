package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"qstream/bus/bustest"
	"qstream/schemas"
	"qstream/test/fakeclamd"
	"qstream/test/fakedns"
	"qstream/test/fakehook"
	"qstream/test/fakeqm"
	"qstream/test/port"
	"qstream/test/rig"
)

// commands is the language of the scenarios beside testscript's own.
var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"sink":      cmdSink,
	"script":    cmdScript,
	"system":    cmdSystem,
	"said":      cmdSaid,
	"directory": cmdDirectory,
	"qstream":   cmdQstream,
	"until":     cmdUntil,
	"submit":    cmdSubmit,
	"received":  cmdReceived,
	"event":     cmdEvent,
	"waiting":   cmdWaiting,
	"inbox":     cmdInbox,
	"sigterm":   signaller(syscall.SIGTERM),
	"sigkill":   signaller(syscall.SIGKILL),
	"again":     cmdAgain,
	"pause":     cmdPause,
	"clock":     cmdClock,
	"retention": cmdRetention,
	"post":      cmdPost,
	"failpoint": cmdFailpoint,
	"refused":   cmdRefused,
	"taken":     cmdTaken,

	"clamd":      cmdClamd,
	"mood":       cmdMood,
	"runs":       cmdRuns,
	"learn":      cmdLearn,
	"dropins":    cmdDropins,
	"qmsink":     cmdQmsink,
	"qmsubmit":   cmdQmsubmit,
	"qmreceived": cmdQmreceived,
	"dns":        cmdDNS,
	"signkey":    cmdSignkey,
	"signed":     cmdSigned,
	"tapped":     cmdTapped,
}

// system is one scenario's qstream and next hops.
type system struct {
	*rig.System
	sinks   map[string]*sink
	qmsinks map[string]*fakeqm.Server
	clamds  map[string]*fakeclamd.Server
	hooks   map[string]*fakehook.Server
	last    string // id of the last accepted message
}

type systemKey struct{}

func setup(e *testscript.Env, brokers *rig.Brokers) error {
	r, err := rig.New(brokers.Kind, e.WorkDir)
	if err != nil {
		return err
	}
	if err := brokers.Lend(r); err != nil {
		return err
	}
	s := &system{System: r, sinks: map[string]*sink{}, qmsinks: map[string]*fakeqm.Server{}, clamds: map[string]*fakeclamd.Server{}, hooks: map[string]*fakehook.Server{}}
	e.Values[systemKey{}] = s
	e.Defer(func() {
		err := brokers.GiveBack(r)
		for _, k := range s.sinks {
			k.Close()
		}
		if err != nil { // the next scenario has other brokers
			e.T().Log(err)
		}
	})
	e.Setenv("SMTP", r.SMTP)
	post, err := port.FreeAddr()
	if err != nil {
		return err
	}
	e.Setenv("POST", post)
	return nil
}

func of(ts *testscript.TestScript) *system { return ts.Value(systemKey{}).(*system) }

// system [-roles] [FLAG...]: start a broker and qstream, in one process or,
// with -roles and on Kafka, each role in a process of its own. The file
// directory.yaml, if there is one, is applied, variables expanded.
func cmdSystem(ts *testscript.TestScript, neg bool, args []string) {
	s, directory := of(ts), ""
	if _, err := os.Stat(ts.MkAbs("directory.yaml")); err == nil {
		directory = expandFile(ts, "directory.yaml")
	}
	if len(args) > 0 && args[0] == "-roles" {
		ts.Check(s.Roles(directory, args[1:]...))
		return
	}
	ts.Check(s.Up(directory, args...))
}

// directory FILE [FLAG...]: apply documents, variables expanded.
func cmdDirectory(ts *testscript.TestScript, neg bool, args []string) {
	for i, a := range args {
		if strings.HasSuffix(a, ".yaml") {
			args[i] = expandFile(ts, a)
		}
	}
	verb(ts, neg, append([]string{"apply"}, args...))
}

// said NAME REGEXP...: in time the process has written what matches.
func cmdSaid(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(eventually(patience, func() error {
		text := of(ts).LogTail(args[0])
		for _, p := range args[1:] {
			if !regexp.MustCompile(p).MatchString(text) {
				return fmt.Errorf("%s didn't say %s:\n%s", args[0], p, text)
			}
		}
		return nil
	}))
}

// qstream ARG...: run a verb against the system. The id that send prints goes
// to $ID.
func cmdQstream(ts *testscript.TestScript, neg bool, args []string) {
	out := verb(ts, neg, args)
	if args[0] == "send" && !neg {
		of(ts).last = strings.TrimSpace(string(out))
		ts.Setenv("ID", of(ts).last)
	}
}

// until REGEXP ARG...: in time a verb's output matches.
func cmdUntil(ts *testscript.TestScript, neg bool, args []string) {
	want := regexp.MustCompile("(?m)" + args[0])
	ts.Check(eventually(patience, func() error {
		out, errs, err := of(ts).Verb(args[1:]...)
		if err != nil || want.Match(out) == neg {
			return fmt.Errorf("qstream %s: %v\n%s%s", strings.Join(args[1:], " "), err, out, errs)
		}
		return nil
	}))
}

func verb(ts *testscript.TestScript, neg bool, args []string) []byte {
	out, errs, err := of(ts).Verb(args...)
	_, _ = ts.Stdout().Write(out)
	_, _ = ts.Stderr().Write(errs)
	if (err != nil) != neg {
		ts.Fatalf("qstream %s: %v\n%s%s", strings.Join(args, " "), err, out, errs)
	}
	return out
}

// sigterm NAME..., sigkill NAME...: end processes by SIGTERM or SIGKILL. Without
// names: all of them.
func signaller(sig syscall.Signal) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		for _, name := range names(of(ts), args) {
			ts.Check(of(ts).Signal(name, sig))
		}
	}
}

// again [NAME...]: start stopped processes as they were.
func cmdAgain(ts *testscript.TestScript, neg bool, args []string) {
	for _, name := range names(of(ts), args) {
		ts.Check(of(ts).Again(name))
	}
}

// names are the processes meant: all, those named, or "up" for a role where
// all roles run in one process.
func names(s *system, args []string) []string {
	_, one := s.Procs["up"]
	switch {
	case one:
		return []string{"up"}
	case len(args) == 0:
		return []string{"ingest", "router", "scanner", "deliver", "delay", "tapper"}
	}
	return args
}

// dns FILE: start a name server with the zone of a file; its address goes to
// $DNS.
func cmdDNS(ts *testscript.TestScript, neg bool, args []string) {
	s, err := fakedns.Start(ts.ReadFile(args[0]))
	ts.Check(err)
	ts.Defer(s.Close)
	ts.Setenv("DNS", s.Addr())
}

// pause DURATION: let time pass, for lifetimes and retentions.
func cmdPause(ts *testscript.TestScript, neg bool, args []string) {
	d, err := time.ParseDuration(args[0])
	ts.Check(err)
	time.Sleep(d)
}

// clock OFFSET: stop qstream and start it again with a clock so far ahead, as
// if time had passed; for the embedded broker, which has no clock of its own.
func cmdClock(ts *testscript.TestScript, neg bool, args []string) {
	s := of(ts)
	s.Env = []string{"QSTREAM_CLOCK_OFFSET=" + args[0]}
	ts.Check(s.Signal("up", syscall.SIGTERM))
	ts.Check(s.Again("up"))
}

// retention DURATION: let Kafka forget accepted mail so soon.
func cmdRetention(ts *testscript.TestScript, neg bool, args []string) {
	d, err := time.ParseDuration(args[0])
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, topic := range []string{schemas.Received, schemas.Reinject, schemas.Content(schemas.DefaultClass)} {
		ts.Check(bustest.Configure(ctx, of(ts).Kafka.Seeds(), topic, map[string]string{
			"retention.ms": strconv.FormatInt(d.Milliseconds(), 10),
			"segment.ms":   strconv.FormatInt(d.Milliseconds()/4, 10),
		}))
	}
}

// patience bounds the wait for something to happen in a system that runs.
const patience = time.Minute

// event TYPE [xN] [ID] [/REGEXP/]: in time the message (by default
// the last accepted) has N events of the type that match. With "!": it has
// none now.
func cmdEvent(ts *testscript.TestScript, neg bool, args []string) {
	s := of(ts)
	kind, count, id, pattern := args[0], 1, s.last, regexp.MustCompile("")
	for _, a := range args[1:] {
		if n, err := strconv.Atoi(strings.TrimPrefix(a, "x")); err == nil {
			count = n
		} else if p, ok := strings.CutPrefix(a, "/"); ok {
			pattern = regexp.MustCompile(strings.TrimSuffix(p, "/"))
		} else {
			id = a
		}
	}
	if neg {
		events, err := s.Trace(id)
		ts.Check(err)
		if n := matching(events, kind, pattern); n > 0 {
			ts.Fatalf("%d events %s of %s, wanted none", n, kind, id)
		}
		return
	}
	ts.Check(eventually(patience, func() error {
		events, err := s.Trace(id)
		if err != nil {
			return err
		}
		if n := matching(events, kind, pattern); n < count {
			return fmt.Errorf("%d events %s %s of %s, wanted %d:\n%s\n%s", n, kind, pattern, id, count, brief(events), s.logs())
		}
		return nil
	}))
}

// waiting COUNT [FLAG...]: in time so many legs wait, as queue list tells with
// the flags.
func cmdWaiting(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	ts.Check(eventually(patience, func() error {
		out, errs, _ := of(ts).Verb(append([]string{"queue", "list", "--json"}, args[1:]...)...)
		var found struct{ Groups []struct{ Legs int } }
		if err := json.Unmarshal(out, &found); err != nil {
			return fmt.Errorf("queue list: %w: %s", err, errs)
		}
		n := 0
		for _, g := range found.Groups {
			n += g.Legs
		}
		if n != want {
			return fmt.Errorf("%d legs wait, wanted %d: %s", n, want, out)
		}
		return nil
	}))
}

// logs are the ends of what the processes said.
func (s *system) logs() string {
	var b strings.Builder
	for name := range s.Procs {
		fmt.Fprintf(&b, "--- %s\n%s\n", name, s.LogTail(name))
	}
	return b.String()
}

// brief is a line for each event.
func brief(events []map[string]any) string {
	var b strings.Builder
	for _, e := range events {
		fmt.Fprintln(&b, e["type"], e["leg"], e["step"], e["destination"], e["reason"], e["text"], e["outcomes"])
	}
	return b.String()
}

func matching(events []map[string]any, kind string, pattern *regexp.Regexp) int {
	n := 0
	for _, e := range events {
		text := fmt.Sprint(e)
		if e["type"] == "EVENT_TYPE_"+strings.ToUpper(kind) && pattern.MatchString(text) {
			n++
		}
	}
	return n
}

// inbox PATH COUNT [/REGEXP/...]: in time the Maildir holds so many
// mails, each pattern matched by one of them.
func cmdInbox(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	ts.Check(eventually(patience, func() error {
		files, err := filepath.Glob(filepath.Join(ts.MkAbs(args[0]), "new", "*"))
		if err != nil || len(files) != want {
			return fmt.Errorf("%d mails in %s, wanted %d (%v)", len(files), args[0], want, err)
		}
		var all []byte
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				return err
			}
			all = append(append(all, b...), "\n=====\n"...)
		}
		for _, p := range args[2:] {
			if !regexp.MustCompile("(?m)" + strings.Trim(p, "/")).Match(all) {
				return fmt.Errorf("no mail in %s matches %s:\n%s", args[0], p, all)
			}
		}
		return nil
	}))
}

// eventually calls f until it returns nil or the time is over.
func eventually(within time.Duration, f func() error) error {
	deadline := time.Now().Add(within)
	for {
		err := f()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// expandFile writes a copy of a scenario's file with its variables expanded.
func expandFile(ts *testscript.TestScript, name string) string {
	text := os.Expand(ts.ReadFile(name), ts.Getenv)
	path := ts.MkAbs("expanded-" + filepath.Base(name))
	ts.Check(os.WriteFile(path, []byte(text), 0o644))
	return path
}
