package crash

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"qstream/test/fakemx"
	"qstream/test/rig"
)

// TestVaultShowsNothing compares runs of the built process as an operator sees
// them who has no key of the vault: without an order, and with orders that cover
// all mail of a recipient, one of them with a sink that fails. What orders make
// comes again; what a busy machine makes does not: so what differs counts if it
// differs in the same way in each of several pairs of runs.
func TestVaultShowsNothing(t *testing.T) {
	each(t, "embedded", "kafka1", func(t *testing.T, broker string) {
		var traces []string
		for pair := range pairs {
			// What else the machine does comes and goes: not always in one of them.
			runs := map[bool]view{}
			for i := range 2 {
				tapped := (pair+i)%2 == 1
				runs[tapped] = observe(t, broker, tapped)
			}
			without, with := runs[false], runs[true]
			t.Logf("accepted to delivered, median and p99: %v without orders, %v with", without.took, with.took)
			found := differences(without, with)
			if pair > 0 {
				found = recurring(traces, found)
			}
			if traces = found; len(traces) == 0 {
				return
			}
			t.Logf("differs (- without orders, + with):\n%s", strings.Join(traces, "\n"))
		}
		t.Errorf("orders show in each of %d pairs of runs (- without, + with):\n%s", pairs, strings.Join(traces, "\n"))
	})
}

// pairs is in how many pairs of runs a trace must come again: what half of the
// runs have by chance differs so in one trial of five hundred.
const pairs = 5

// view is what is seen of a run in which a fixed number of mails was sent.
type view struct {
	facts   map[string]bool   // what stands somewhere: there or not
	amounts map[string]amount // what chance makes more or less of
	took    []time.Duration   // median and 99th percentile, from accepted to delivered
}

// amount is a number that like runs have within a factor and some more.
type amount struct{ n, factor, more float64 }

func (v *view) fact(format string, args ...any) { v.facts[fmt.Sprintf(format, args...)] = true }

// recurring are the differences that were there before.
func recurring(before, found []string) []string {
	return slices.DeleteFunc(found, func(d string) bool { return !slices.Contains(before, d) })
}

// differences are the facts of one view alone, and the amounts that are larger
// in one than chance makes them.
func differences(without, with view) (all []string) {
	alone := func(sign string, a, b view) {
		for f := range a.facts {
			if !b.facts[f] {
				all = append(all, sign+f)
			}
		}
		for name, x := range a.amounts {
			if x.n > x.factor*b.amounts[name].n+x.more {
				all = append(all, sign+"more: "+name)
			}
		}
	}
	alone("- ", without, with)
	alone("+ ", with, without)
	slices.Sort(all)
	return all
}

var (
	logged  = regexp.MustCompile(`level=\w+ msg=("[^"]*"|\S+)`)
	numbers = regexp.MustCompile(`[0-9][0-9A-Za-z.:+-]*`)
)

func observe(t *testing.T, broker string, tapped bool) view {
	t.Helper()
	v := found(t)
	tr := start(t, broker, false, fakemx.Config{}, "--vault", v.dir, "--vault-beat", "250ms")
	defer tr.Close() // two systems at a time are enough
	v.ask("ann", nothing)
	if tapped {
		v.order("user@acme.example", "maildir:"+filepath.Join(t.TempDir(), "taps"))
		v.order("*@acme.example", "maildir:/dev/null")
	}
	tr.beaten()
	before := tr.describe()
	tr.begin(4, 60, mails)
	tr.wg.Wait()
	tr.settle("beside a vault", 0)
	after, seen := tr.describe(), tr.look()
	tr.brokers(&seen, before, after)
	return seen
}

// beaten waits until the vault has written for some ten seconds: to order takes
// time, in which other things happen, too.
func (tr *trial) beaten() {
	tr.t.Helper()
	for end := time.Now().Add(rig.Patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		_, text, _ := strings.Cut(tr.metrics(), "\nqstream_tapper_vault_ticks_total ")
		text, _, _ = strings.Cut(text, "\n")
		if n, _ := strconv.ParseFloat(text, 64); n > 3000 {
			return
		}
	}
	tr.t.Fatal("the vault hardly writes")
}

// mails is how many are sent in each run.
const mails = 120

// look is what an operator sees of a run that has settled.
func (tr *trial) look() view {
	tr.t.Helper()
	seen := view{facts: map[string]bool{}, amounts: map[string]amount{}}
	text, err := os.ReadFile(filepath.Join(tr.Work, "up.log"))
	must(tr.t, err)
	for _, line := range logged.FindAllString(string(text), -1) {
		seen.fact("log: %s", line)
	}
	for line := range strings.Lines(tr.metrics()) {
		if name, _, ok := strings.Cut(line, " "); ok && strings.HasPrefix(name, "qstream_") {
			seen.fact("metric: %s", numbers.ReplaceAllString(name, "N"))
		}
	}
	tr.records(&seen)
	for _, args := range [][]string{{"topics", "verify"}, {"queue", "list"}, {"tap", "archive", "list"}, {"audit"}} {
		out, errs, _ := tr.Verb(args...) // some say that there is nothing
		seen.fact("%s: %s", strings.Join(args, " "), numbers.ReplaceAllString(string(out)+string(errs), "N"))
	}
	for _, event := range tr.life() {
		seen.fact("trace: %s", event)
	}
	seen.took = tr.took()
	for i, name := range []string{"median", "99th percentile"} {
		seen.amounts["milliseconds from accepted to delivered, "+name] = amount{float64(seen.took[i].Milliseconds()), 3, 50}
	}
	if len(seen.facts) < 70 {
		tr.t.Errorf("too little was seen: %v", seen.facts)
	}
	return seen
}

// records adds what is on the topics: of the vault's the form, of others how many.
func (tr *trial) records(seen *view) {
	tr.t.Helper()
	for _, topic := range []string{"received", "reinject", "events", "hold", "journal", "quarantine", "parked", "control", "audit", "vault.00", "vault.01", "vault.02", "vault.orders", "vault.audit"} {
		records := tr.tail(topic)
		if !strings.HasPrefix(topic, "vault.") {
			if topic == "journal" { // marks of attempts, and of who owns a partition
				seen.amounts["records on "+topic] = amount{float64(len(records)), 1.1, 5}
				continue
			}
			seen.fact("records on %s: %d", topic, len(records))
			continue
		}
		if len(records) == 0 {
			tr.t.Errorf("nothing is on %s", topic)
		}
		for _, r := range records {
			text, err := json.Marshal(r.Headers)
			must(tr.t, err)
			seen.fact("record on %s: key %q, %d bytes, headers %s", topic, r.Key, len(r.Value), text)
		}
	}
}

// metrics are what the process shows at /metrics.
func (tr *trial) metrics() string {
	tr.t.Helper()
	res, err := http.Get("http://" + tr.Process("up").HTTP + "/metrics")
	must(tr.t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	must(tr.t, err)
	return string(text)
}

type tailed struct {
	Value   json.RawMessage
	Headers json.RawMessage
	Key     string
}

func (tr *trial) tail(topic string) []tailed {
	tr.t.Helper()
	out, errs, err := tr.Verb("tail", topic, "--json")
	if err != nil && !bytes.Contains(errs, []byte("no records")) {
		tr.t.Fatalf("tail %s: %v\n%s", topic, err, errs)
	}
	var all []tailed
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var r tailed
		must(tr.t, dec.Decode(&r))
		all = append(all, r)
	}
	return all
}

// life is what the events of the newest message for the covered recipient say.
func (tr *trial) life() []string {
	tr.t.Helper()
	id := ""
	for _, r := range tr.tail("received") {
		var m struct {
			ID       string
			Envelope struct{ Recipients []struct{ Address string } }
		}
		must(tr.t, json.Unmarshal(r.Value, &m))
		if m.Envelope.Recipients[0].Address == "user@acme.example" {
			id = m.ID
		}
	}
	events, err := tr.Trace(id)
	must(tr.t, err)
	var told []string
	for _, e := range events {
		text, err := json.Marshal([]any{e["type"], e["stage"], e["tenant"], e["queue"], e["route"]})
		must(tr.t, err)
		told = append(told, string(text))
	}
	return told
}

// took is how long mail was under way: the median and the 99th percentile.
func (tr *trial) took() []time.Duration {
	median, p99, _ := between(tr.transits(), time.Time{}, time.Now())
	return []time.Duration{median, p99}
}
