package vault

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/schemas"
	"qstream/tapper/vault/order"
)

// seen is all that somebody without the vault's key can see of a system: each
// topic's records, by size, key and headers; metrics; logs.
type seen struct {
	topics  map[string]string // all but the number of the vault's records
	ticks   map[string]int    // records of the vault's topics
	metrics map[string]float64
	logs    []string
	fetches int64 // of single places: what is read as it comes asks for none
}

// look runs a system with a vault over the same mail, with orders that cover
// it all or with none.
func look(t *testing.T, orders int) seen {
	t.Helper()
	s := newSystem(t)
	fetches := s.broker.PlaceFetches()
	var text lockedBuffer
	registry := prometheus.NewRegistry()
	logs := slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelInfo, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	own := s.broker.Dial(t, bus.Config{Registerer: registry, Log: logs})
	v, err := New(Config{Dir: s.folder.Dir, Me: "mx.example", Beat: 2 * laneBeat, LaneBeat: laneBeat, Size: 1024}, Deps{
		Bus: own, Directory: s.dir, Log: logs, Metrics: registry, Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- v.Run(ctx) }()
	p := &tapper{Vault: v, s: s}
	eventually(t, "the vault writes", v.set.Active)
	var ids []string
	for i := range orders {
		o := order.Order{Who: []order.Rule{{Recipient: "bob@acme.example"}}, What: order.Full, Sink: "maildir:" + filepath.Join(s.sinks, fmt.Sprint(i))}
		if i == 0 { // whose sink fails for ever
			o.Sink = "maildir:/dev/null"
		}
		ids = append(ids, p.approve(o))
	}
	for range 100 {
		s.put("bob@acme.example")
	}
	for _, id := range ids[min(1, len(ids)):] {
		p.complete(id, 100)
	}
	fetched := fetches()
	// As long again, so that both systems have written for a while.
	before := len(bustest.Records(t, s.bus, schemas.VaultLane(15)))
	eventually(t, "the lanes go on", func() bool { return len(bustest.Records(t, s.bus, schemas.VaultLane(15))) > before+20 })
	metrics := metricsOf(t, registry) // before the stop, at which connections end in any order
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	return seen{topics: topicsOf(t, s), ticks: ticksOf(t, s), metrics: metrics, logs: text.lines(), fetches: fetched}
}

// topicsOf describes every topic: of the vault's the form of the records, of
// the others how many there are, too.
func topicsOf(t *testing.T, s *system) map[string]string {
	t.Helper()
	topics := map[string]string{}
	for _, row := range schemas.FixedTopics() {
		var forms []string
		records := bustest.Records(t, s.bus, row.Name)
		for _, r := range records {
			if form := fmt.Sprintf("%d bytes, key of %d, %d headers", len(r.Value), len(r.Key), len(r.Headers)); !slices.Contains(forms, form) {
				forms = append(forms, form)
			}
		}
		slices.Sort(forms)
		topics[row.Name] = strings.Join(forms, "; ")
		if !strings.HasPrefix(row.Name, "qstream.vault.") {
			topics[row.Name] += fmt.Sprintf("; %d records", len(records))
		}
	}
	return topics
}

func ticksOf(t *testing.T, s *system) map[string]int {
	t.Helper()
	ticks := map[string]int{}
	for n := range schemas.VaultLanes {
		ticks[schemas.VaultLane(n)] = len(bustest.Records(t, s.bus, schemas.VaultLane(n)))
	}
	return ticks
}

// timed are metrics that tell how long a system ran and how fast its broker
// was: their presence is compared. paced grow with the records that are written:
// what they are for each is compared, give or take a fifth. Connections end, and
// are made again, when a broker is slow, and a beat is on its way or not: those are luck.
var (
	luck  = regexp.MustCompile(`^qstream_kafka_((connects|connect_errors|disconnects|read_errors|write_errors)_total|buffered_)`)
	timed = regexp.MustCompile(`^qstream_(tapper_vault_(ticks|missed)_total|bus_publish)`)
	paced = regexp.MustCompile(`^qstream_kafka_(fetch|produce|read|write)_(bytes|batches)_total`)
)

// metricsOf are all series with their values.
func metricsOf(t *testing.T, r *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			all[fmt.Sprintf("%s %v", f.GetName(), m.Label)] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetUntyped().GetValue()
		}
	}
	return all
}

func compareMetrics(t *testing.T, without, with map[string]float64) {
	t.Helper()
	const ticks = "qstream_tapper_vault_ticks_total []"
	if without[ticks] == 0 || with[ticks] == 0 {
		t.Fatalf("no ticks among %v", without)
	}
	for name, a := range without {
		if luck.MatchString(name) {
			continue
		}
		b, ok := with[name]
		same := a == b || timed.MatchString(name)
		if paced.MatchString(name) && !strings.Contains(name, "seed") {
			a, b = a/without[ticks], b/with[ticks]
			same = a < b*1.2 && b < a*1.2
		}
		if !ok || !same {
			t.Errorf("%s: %v without orders, %v with", name, a, b)
		}
	}
	for name := range with {
		if _, ok := without[name]; !ok && !luck.MatchString(name) {
			t.Errorf("%s is there with orders only", name)
		}
	}
}

// Whoever has no key sees the same whether orders cover all mail, one of them
// with a sink that fails, or there is none.
func TestInvisible(t *testing.T) {
	without, with := look(t, 0), look(t, 3)
	for topic, want := range without.topics {
		if with.topics[topic] != want {
			t.Errorf("%s: with orders\n%s\nwithout\n%s", topic, with.topics[topic], want)
		}
	}
	for _, s := range []seen{without, with} {
		full, empty := s.ticks[schemas.VaultLane(0)], s.ticks[schemas.VaultLane(15)]
		for topic, n := range s.ticks {
			if n < full-2 || n > full+2 { // one beat may be cut at the end
				t.Errorf("%d records on %s, %d on a lane that has no partition, %d on one that has", n, topic, empty, full)
			}
		}
	}
	if with.fetches > without.fetches+5 { // a reader that stands still may ask once
		t.Errorf("%d fetches of single places with orders, %d without: brokers meter what sinks are given", with.fetches, without.fetches)
	}
	compareMetrics(t, without.metrics, with.metrics)
	if !slices.Equal(with.logs, without.logs) {
		t.Errorf("logs with orders\n%s\nwithout\n%s", strings.Join(with.logs, "\n"), strings.Join(without.logs, "\n"))
	}
	if len(with.logs) == 0 || len(with.metrics) == 0 {
		t.Error("nothing is compared")
	}
}

// lockedBuffer is a log that several write.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// lines are the different ones, sorted.
func (b *lockedBuffer) lines() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	// Addresses and numbers of connections differ from run to run.
	text := regexp.MustCompile(`[0-9]+`).ReplaceAllString(b.text.String(), "0")
	lines := strings.Split(strings.TrimSpace(text), "\n")
	slices.Sort(lines)
	return slices.Compact(lines)
}
