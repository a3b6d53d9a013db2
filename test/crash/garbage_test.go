package crash

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"qstream/bus"
	"qstream/schemas"
	"qstream/test/fakemx"
	"qstream/test/rig"
)

// TestGarbage puts records that mean nothing on every topic while mail flows:
// the neighbours arrive, and what no handler can process is listed.
func TestGarbage(t *testing.T) {
	each(t, "embedded,kafka1", "kafka3", func(t *testing.T, broker string) {
		tr := start(t, broker, false, fakemx.Config{})
		b := tr.dial()
		tr.begin(5, 50, 0)
		topics := []string{schemas.Queue("acme", 1), schemas.Queue("beta", 1), schemas.Content(schemas.DefaultClass)}
		for _, row := range schemas.FixedTopics() {
			topics = append(topics, row.Name)
		}
		ctx, cancel := context.WithTimeout(context.Background(), rig.Patience)
		defer cancel()
		for _, topic := range topics {
			for _, value := range []string{"", "garbage", "\x0a\xff\xff\xff\xff\x0f", strings.Repeat("\xff", 4000)} {
				must(t, b.Publish(ctx, &bus.Record{Topic: topic, Partition: bus.AnyPartition, Key: []byte(value), Value: []byte(value)}))
			}
		}
		time.Sleep(5 * time.Second)
		tr.end()
		tr.settle("garbage on every topic", 0)
		if !tr.Ready("up") {
			t.Error("not ready any more")
		}
		out, errs, err := tr.Verb("queue", "deadletter", "list")
		if err != nil {
			t.Fatalf("list deadletter: %v\n%s", err, errs)
		}
		for _, topic := range []string{schemas.Received, schemas.Reinject, schemas.Parked, schemas.DelayTopics()[0], topics[0]} {
			if !strings.Contains(string(out), topic) {
				t.Errorf("garbage of %s isn't listed:\n%s", topic, out)
			}
		}
	})
}

// dial connects to the system's broker.
func (tr *trial) dial() *bus.Bus {
	tr.t.Helper()
	var seeds []string
	if tr.Kafka != nil {
		seeds = tr.Kafka.Seeds()
	} else {
		var run struct{ Kafka []string }
		text, err := os.ReadFile(filepath.Join(tr.Work, "data", "run.json"))
		must(tr.t, err)
		must(tr.t, json.Unmarshal(text, &run))
		seeds = run.Kafka
	}
	b, err := bus.Dial(bus.Config{Seeds: seeds})
	must(tr.t, err)
	tr.t.Cleanup(b.Close)
	return b
}
