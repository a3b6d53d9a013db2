package crash

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qstream/test/fakemx"
)

// TestVaultShowsNothing compares two runs of the built process as an operator
// sees them who has no key of the vault: one without an order, one with orders
// that cover all mail of a recipient, one of them with a sink that fails.
func TestVaultShowsNothing(t *testing.T) {
	each(t, "embedded", "kafka1", func(t *testing.T, broker string) {
		without, with := observe(t, broker, false), observe(t, broker, true)
		t.Logf("accepted to delivered, median and p99: %v and %v without orders, %v and %v with", without.took[0], without.took[1], with.took[0], with.took[1])
		if with.took[0] > 3*without.took[0]+50*time.Millisecond { // the machine's noise
			t.Errorf("mail takes %v with orders, %v without", with.took[0], without.took[0])
		}
		without.took, with.took = nil, nil
		if diff := cmp.Diff(without, with, cmp.AllowUnexported(view{})); diff != "" {
			t.Errorf("orders show (-without +with):\n%s", diff)
		}
	})
}

// view is what is seen of a run in which a fixed number of mails was sent.
type view struct {
	Logs    []string       // what lines say, each once
	Metrics []string       // series, without their values
	Records map[string]int // of each topic
	Sizes   []int          // of records of the vault's topics
	Headers []string       // of those records
	Trace   []string       // events of one message, by type and stage
	Verbs   map[string]string
	took    []time.Duration // median and 99th percentile, from accepted to delivered
}

var (
	logged  = regexp.MustCompile(`level=\w+ msg=("[^"]*"|\S+)`)
	numbers = regexp.MustCompile(`[0-9][0-9A-Za-z.:+-]*`)
)

func observe(t *testing.T, broker string, tapped bool) view {
	t.Helper()
	const mails = 120
	v := found(t)
	tr := start(t, broker, false, fakemx.Config{}, "--vault", v.dir, "--vault-beat", "250ms")
	v.ask("ann", nothing)
	if tapped {
		v.order("user@acme.example", "maildir:"+filepath.Join(t.TempDir(), "taps"))
		v.order("*@acme.example", "maildir:/dev/null")
	}
	tr.begin(4, 60, mails)
	tr.wg.Wait()
	tr.settle("beside a vault", 0)
	seen := view{Records: map[string]int{}, Verbs: map[string]string{}}
	seen.Logs = distinct(logged.FindAllString(tr.LogTail("up"), -1))
	seen.Metrics = series(t, tr.Process("up").HTTP)
	sizes, headers := map[int]bool{}, map[string]bool{}
	for _, topic := range []string{"received", "reinject", "events", "hold", "journal", "quarantine", "parked", "control", "audit", "vault.00", "vault.01", "vault.02", "vault.orders", "vault.audit"} {
		records := tr.tail(topic)
		if !strings.HasPrefix(topic, "vault.") {
			seen.Records[topic] = len(records)
			continue
		}
		if len(records) == 0 {
			t.Errorf("nothing is on %s", topic)
		}
		for _, r := range records {
			sizes[len(r.Value)] = true
			text, err := json.Marshal(r.Headers)
			must(t, err)
			headers[string(text)] = true
		}
	}
	seen.Sizes, seen.Headers = slices.Sorted(maps.Keys(sizes)), slices.Sorted(maps.Keys(headers))
	for _, args := range [][]string{{"topics", "verify"}, {"queue", "list"}, {"tap", "archive", "list"}, {"audit"}} {
		out, errs, _ := tr.Verb(args...) // some say that there is nothing
		seen.Verbs[strings.Join(args, " ")] = numbers.ReplaceAllString(string(out)+string(errs), "N")
	}
	seen.Trace = tr.life()
	seen.took = tr.took()
	if len(seen.Logs) < 3 || len(seen.Metrics) < 50 || len(seen.Sizes) != 1 || len(seen.Trace) < 3 || seen.Records["events"] < mails {
		t.Errorf("too little was seen, or records of several sizes: %+v", seen)
	}
	return seen
}

func distinct(lines []string) []string {
	slices.Sort(lines)
	return slices.Compact(lines)
}

// series are the names and labels of metrics.
func series(t *testing.T, addr string) []string {
	t.Helper()
	res, err := http.Get("http://" + addr + "/metrics")
	must(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	must(t, err)
	var names []string
	for line := range strings.Lines(string(text)) {
		if name, _, ok := strings.Cut(line, " "); ok && strings.HasPrefix(name, "qstream_") {
			names = append(names, numbers.ReplaceAllString(name, "N"))
		}
	}
	return distinct(names)
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
