package test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"qstream/schemas"
)

var update = flag.Bool("update", false, "write generated parts of docs")

const topicsPage = "../docs/topics.md"

// parties are who writes and who reads a topic, by the start of its name.
var parties = []struct{ topic, writes, reads string }{
	{schemas.Received, "ingest", "router, tapper"},
	{"qstream.content.", "ingest", "scanner, deliver, delay (by reference)"},
	{schemas.Reinject, "deliver (DSNs, reroutes), delay (reroutes), scanner (reroutes, forwards)", "router, tapper"},
	{"qstream.queue.", "router, scanner, delay", "deliver; delay watches it"},
	{"qstream.scan.", "router, delay, deliver", "scanner; delay watches it"},
	{"qstream.delay.", "scanner, deliver, delay", "delay"},
	{schemas.Parked, "deliver, delay", "delay"},
	{schemas.Quarantine, "scanner, delay", "delay"},
	{schemas.Rescan, "scan replay, scanner", "scanner, scan replay"},
	{schemas.Hold, "delay", "scanner, deliver, delay (by reference)"},
	{schemas.Journal, "deliver", "deliver, after a takeover"},
	{schemas.Events, "router, scanner, deliver, delay", "ledger, tapper, trace, operators"},
	{"qstream.events.", "tapper", "the tenant"},
	{schemas.Webhook, "tapper, webhook dead", "tapper, webhook dead"},
	{schemas.Directory, "apply", "every role"},
	{schemas.Control, "queue suspend, resume, flush; quarantine release, delete; webhook pause, resume, rewind; scanner (scan again)", "every role"},
	{schemas.Greylist, "ingest", "ingest"},
	{schemas.Audit, "replay, scan replay, quarantine show, scan promote", "replay, scan replay, operators"},
	{schemas.Checkpoint, "tapper", "tapper, verify, replay bundle"},
	{schemas.Idempotency, "ingest", "ingest"},
	{schemas.Usage, "ingest, ledger", "ingest, queue usage"},
	{schemas.Archives, "tapper", "tapper, tap archive list"},
	{"qstream.tap.", "tapper", "tapper, for the archive's sink"},
	{schemas.VaultOrders, "tapper, with a vault", "tapper, officers"},
	{schemas.VaultAudit, "tapper, with a vault", "tapper, officers"},
	{"qstream.vault.", "tapper, with a vault", "tapper"},
	{schemas.Deadletter, "every consumer", "queue deadletter"},
}

// TestTopicsPage holds the page against the topic table.
func TestTopicsPage(t *testing.T) {
	page, err := os.ReadFile(topicsPage)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(page), "-update -->\n")
	_, tail, ok2 := strings.Cut(rest, "<!-- end -->")
	if !ok || !ok2 {
		t.Fatal("the page has lost its marks")
	}
	want := head + "-update -->\n" + topicsTable(t) + "<!-- end -->" + tail
	if want == string(page) {
		return
	}
	if !*update {
		t.Fatal("docs/topics.md differs from the topic table: go test ./test -run TopicsPage -update")
	}
	if err := os.WriteFile(topicsPage, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

func topicsTable(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("| topic | key | value | partitions | cleanup | largest record | written by | read by |\n|---|---|---|---|---|---|---|---|\n")
	rows := append(schemas.FixedTopics(), schemas.QueueTopics("Q", 1, schemas.DefaultPool, 0)...)
	rows = append(rows, schemas.ScanTopics("Q", 1, schemas.DefaultPool, 0)...)
	rows = append(rows, schemas.TapTopics("ID")...)
	rows = append(rows, schemas.Sizing{}.TenantEvents("TENANT", 0)...)
	for _, r := range rows {
		if lane, ok := laneOf(r.Name); ok && lane > 0 {
			continue // one row for all
		} else if ok {
			r.Name = "qstream.vault.NN.v1"
		}
		name := strings.Replace(r.Name, schemas.Content(schemas.DefaultClass), schemas.Content("CLASS"), 1)
		writes, reads := partiesOf(t, name)
		fmt.Fprintf(&b, "| %s | %s | %s | %d | %s | %d KiB | %s | %s |\n", name, r.Key,
			strings.TrimPrefix(r.Value, "qstream.v1."), r.Partitions, cleanup(r), r.MaxMessage>>10, writes, reads)
	}
	return b.String()
}

// laneOf is which of the vault's lanes a topic is.
func laneOf(topic string) (int, bool) {
	for n := range schemas.VaultLanes {
		if topic == schemas.VaultLane(n) {
			return n, true
		}
	}
	return 0, false
}

func cleanup(r schemas.Topic) string {
	switch {
	case r.Compact && r.Retention < 24*time.Hour:
		return fmt.Sprintf("compact; delete, %d h", r.Retention/time.Hour)
	case r.Compact:
		return fmt.Sprintf("compact; delete, %d d", r.Retention/(24*time.Hour))
	case r.Retention < 0:
		return "never"
	}
	return fmt.Sprintf("delete, %d d", r.Retention/(24*time.Hour))
}

func partiesOf(t *testing.T, topic string) (writes, reads string) {
	t.Helper()
	for _, p := range parties {
		if strings.HasPrefix(topic, p.topic) {
			return p.writes, p.reads
		}
	}
	t.Fatalf("nobody is said to write %s", topic)
	return "", ""
}
