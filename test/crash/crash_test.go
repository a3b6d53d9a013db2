// Package crash kills, freezes, starves and misleads real qstream processes
// and brokers under load, and counts what became of every accepted mail. It
// runs on the brokers that QSTREAM_TEST_BROKERS names: embedded, kafka1, kafka3;
// QSTREAM_TEST_LONG=1 makes the trials longer, QSTREAM_TEST_AWAY=1h the one in
// which a vault is off.
package crash

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"qstream/test/fakeclamd"
	"qstream/test/fakedns"
	"qstream/test/fakemx"
	"qstream/test/rig"
)

// long reports whether there is time for more of the same.
var long = os.Getenv("QSTREAM_TEST_LONG") != ""

func TestMain(m *testing.M) { rig.Main(m) }

// trial is one system under load with a sink behind it.
type trial struct {
	*rig.System
	t    *testing.T
	sink *fakemx.Server
	load *rig.Load
	scan *fakeclamd.Server  // of both tenants' mail, beside unpack; nil: none
	to   func(n int) string // recipient of the nth mail
	wg   sync.WaitGroup
	halt context.CancelFunc
}

// each runs f on every broker that was asked for, of those named; on those of
// more only if there is time for more of the same. Two trials run at a time:
// they wait more than they work.
func each(t *testing.T, brokers, more string, f func(t *testing.T, broker string)) {
	t.Parallel()
	if long {
		brokers += "," + more
	}
	asked, ran := os.Getenv("QSTREAM_TEST_BROKERS"), false
	for broker := range strings.SplitSeq(asked, ",") {
		if broker != "" && slices.Contains(strings.Split(brokers, ","), broker) {
			ran = true
			t.Run(broker, func(t *testing.T) { f(t, broker) })
		}
	}
	if !ran {
		t.Skipf("needs one of %s in QSTREAM_TEST_BROKERS (with QSTREAM_TEST_LONG also %q)", brokers, more)
	}
}

// start runs a system with two tenants whose mail goes to one sink. With
// roles, each role is a process of its own where the broker allows it.
func start(t *testing.T, broker string, roles bool, sink fakemx.Config, flags ...string) *trial {
	t.Helper()
	return startWith(t, t.TempDir(), broker, roles, sink, flags...)
}

// startIn is start of one process with a work folder of the caller's.
func startIn(t *testing.T, work, broker string, sink fakemx.Config) *trial {
	t.Helper()
	return startWith(t, work, broker, false, sink)
}

func startWith(t *testing.T, work, broker string, roles bool, sink fakemx.Config, flags ...string) *trial {
	t.Helper()
	s, err := rig.New(broker, work)
	must(t, err)
	sink.DigestOnly = true
	k, err := fakemx.Start(sink)
	must(t, err)
	names, err := fakedns.Start(zone())
	must(t, err)
	t.Cleanup(names.Close)
	s.Env = []string{"QSTREAM_DNS=" + names.Addr()}
	tr := &trial{System: s, t: t, sink: k, to: twoTenants}
	t.Cleanup(func() {
		if tr.halt != nil {
			tr.end()
		}
		s.Close()
		k.Close()
	})
	begin := s.Up
	if roles {
		begin = s.Roles
	}
	must(t, begin(tr.documents("concurrency: 10", hosts), flags...))
	return tr
}

// hosts is how many next hops the mail of the tenant beta goes to: the sink
// under as many names, so that every partition has mail.
const hosts = 10

// manyHosts is how many there are in trials with very many attempts open:
// destinations that don't answer may take but a part of a queue each.
const manyHosts = 200

// inFlight is how many attempts the two queues have open at most, by their
// concurrency. It stands for the most duplicates that one kill may make: what
// is open no more is in the journal some milliseconds later.
const inFlight = 20

// documents writes two tenants to a file, each with a queue that tries again
// soon and has the settings given, and routes to so many hosts.
func (tr *trial) documents(settings string, hosts int) string {
	tr.t.Helper()
	port := tr.sink.Port()
	engines, beta := "---\nkind: scan\nname: measured\nengines: measure", ""
	if tr.scan != nil {
		engines = "---\nkind: engine\nname: clam\ntype: clamd\naddress: tcp://" + tr.scan.Addr() + "\nkeep: 0s\n" +
			"---\nkind: scan\nname: measured\nengines: [measure, clam]"
		beta = "scan: measured"
	}
	text := fmt.Sprintf(`
kind: queue
name: acme
schedule: {steps: [1s, 2s]}
scan: measured
%[1]s
---
kind: engine
name: measure
type: unpack
%[3]s
---
kind: queue
name: beta
schedule: {steps: [1s, 2s]}
%[4]s
%[1]s
---
kind: tenant
name: acme
domains: [acme.example]
---
kind: tenant
name: beta
domains: [.beta.example]
---
kind: route
name: acme
match: {domain: acme.example}
via: smtp://mx.sink.example:%[2]d
`, settings, port, engines, beta)
	for i := range hosts {
		text += fmt.Sprintf("---\nkind: route\nname: beta-%[1]d\nmatch: {domain: d%[1]d.beta.example}\nvia: smtp://mx%[1]d.sink.example:%[2]d\n", i, port)
	}
	file := filepath.Join(tr.Work, "directory.yaml")
	must(tr.t, os.WriteFile(file, []byte(text), 0o644))
	return file
}

// scanned lets all mail of both tenants be scanned by an engine that takes its
// time, so that scans are under way whenever a process ends.
func (tr *trial) scanned() {
	tr.t.Helper()
	c, err := fakeclamd.Start()
	must(tr.t, err)
	tr.t.Cleanup(c.Down)
	c.Feel(fakeclamd.Mood{Slow: 20 * time.Millisecond})
	tr.scan = c
	tr.apply("concurrency: 10", hosts)
}

func (tr *trial) apply(settings string, hosts int) {
	tr.t.Helper()
	file := tr.documents(settings, hosts)
	if out, errs, err := tr.Verb("apply", file); err != nil {
		tr.t.Fatalf("apply: %v\n%s%s", err, out, errs)
	}
}

// widen lets the queues have very many attempts open, and the load go to very
// many hosts.
func (tr *trial) widen() {
	tr.t.Helper()
	tr.to = func(n int) string { return fmt.Sprintf("user@d%d.beta.example", n%manyHosts) }
	tr.apply("concurrency: 1200\ndestination_concurrency: 600", manyHosts)
}

// zone has the names of the sink.
func zone() string {
	text := "mx.sink.example. 60 IN A 127.0.0.1\n"
	for i := range manyHosts {
		text += fmt.Sprintf("mx%d.sink.example. 60 IN A 127.0.0.1\n", i)
	}
	return text
}

// twoTenants is whom the nth mail is for: every second one goes to acme.
func twoTenants(n int) string {
	if n%2 == 0 {
		return "user@acme.example"
	}
	return fmt.Sprintf("user@d%d.beta.example", n/2%hosts)
}

// begin starts the load: n mails (0: until end) at a rate.
func (tr *trial) begin(sessions int, rate float64, n int) {
	tr.load = &rig.Load{Addr: tr.SMTP, Sessions: sessions, Rate: rate, To: tr.to}
	ctx, cancel := context.WithCancel(context.Background())
	tr.halt = cancel
	tr.wg.Go(func() { tr.load.Run(ctx, n) })
}

// end stops the load.
func (tr *trial) end() {
	tr.halt()
	tr.wg.Wait()
	tr.halt = nil
}

// settle waits until everything that was accepted arrived and reports. It
// fails on a loss, and on more duplicates than the bound.
func (tr *trial) settle(name string, bound int) {
	tr.t.Helper()
	var tally rig.Tally
	began, told := time.Now(), false
	for {
		tally = tr.load.Tally(tr.counts())
		if len(tally.Lost) == 0 || time.Since(began) > 2*rig.Patience {
			break
		}
		if !told && time.Since(began) > late {
			told = true
			tr.t.Logf("%s: %d mails have not come after %v", name, len(tally.Lost), late)
			tr.explain(tally.Lost[0])
		}
		time.Sleep(200 * time.Millisecond)
	}
	time.Sleep(2 * time.Second) // for late repetitions
	tally = tr.load.Tally(tr.counts())
	tr.t.Logf("%s: accepted %d, lost %d, duplicates %d (bound %d; %.0f per million), replies other than 250: %v",
		name, tally.Accepted, len(tally.Lost), tally.Duplicates, bound,
		1e6*float64(tally.Duplicates)/float64(max(1, tally.Accepted)), tr.load.Refused())
	if len(tally.Lost) > 0 {
		tr.t.Errorf("lost %d accepted mails: %v", len(tally.Lost), tally.Lost[:min(5, len(tally.Lost))])
		tr.explain(tally.Lost[0])
	}
	if tally.Duplicates > bound {
		tr.t.Errorf("%d duplicates, bound %d: %v", tally.Duplicates, bound, tally.Twice[:min(5, len(tally.Twice))])
		tr.explain(tally.Twice[0])
	}
	if tr.scan != nil {
		if scans, _ := tr.scan.Scans(); scans < tally.Accepted {
			tr.t.Errorf("%d scans of %d mails: some passed unscanned", scans, tally.Accepted)
		} else {
			tr.t.Logf("%s: %d scans", name, scans)
		}
	}
	if tally.Strange > 0 {
		tr.t.Errorf("%d mails arrived that nobody accepted", tally.Strange)
	}
	if tally.Accepted == 0 {
		tr.t.Error("nothing was accepted: the trial shows nothing")
	}
	for reply := range tr.load.Refused() {
		if reply[0] == '5' {
			tr.t.Errorf("permanent reply for our own trouble: %s", reply)
		}
	}
}

// counts are the sink's, without what no client handed in.
func (tr *trial) counts() map[string]int {
	n := tr.sink.Counts()
	delete(n, backlogID)
	return n
}

// late is after what time a trial shows the trace of a mail that has not come.
const late = 45 * time.Second

// explain shows the trace of a mail, by identity and message id, and the ends
// of the logs.
func (tr *trial) explain(mail string) {
	fields := strings.Fields(mail)
	out, errs, err := tr.Verb("trace", fields[len(fields)-1])
	tr.t.Logf("trace of %s: %v\n%s%s", mail, err, out, errs)
	for name := range tr.Procs {
		tr.t.Logf("end of %s:\n%s", name, tr.LogTail(name))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
