package bus

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"qstream/schemas"
)

// rig is a broker with topics, and busses to it.
type rig struct {
	t     *testing.T
	seeds []string
	plain *kgo.Client
	fake  *kfake.Cluster // nil on a real broker
	admin *kadm.Client
	name  string // makes topics and groups this test's own
}

// newRig starts the embedded broker, or takes the one that the environment
// names.
func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, name: strings.ToLower(strings.NewReplacer("/", ".", " ", ".", "=", "-").Replace(t.Name())) + fmt.Sprintf(".%d", time.Now().UnixNano())}
	if seeds := os.Getenv("QSTREAM_TEST_KAFKA"); seeds != "" {
		r.seeds = strings.Split(seeds, ",")
	} else {
		c, err := kfake.NewCluster(kfake.NumBrokers(1),
			kfake.BrokerConfigs(map[string]string{"group.consumer.session.timeout.ms": "6000", "group.consumer.heartbeat.interval.ms": "1000"}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		r.fake, r.seeds = c, c.ListenAddrs()
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(r.seeds...), kgo.MaxVersions(kafkaVersions()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	r.admin, r.plain = kadm.NewClient(cl), cl
	r.ensure(3, schemas.Journal, schemas.Deadletter)
	return r
}

func (r *rig) ensure(partitions int32, topics ...string) {
	r.t.Helper()
	got, err := r.admin.CreateTopics(r.t.Context(), partitions, -1, nil, topics...)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, g := range got {
		if g.Err != nil && !strings.Contains(g.Err.Error(), "TOPIC_ALREADY_EXISTS") {
			r.t.Fatal(g.Topic, g.Err)
		}
	}
	if err := r.bus().awaitTopics(r.t.Context(), topics); err != nil {
		r.t.Fatal(err)
	}
}

// topic makes a topic of this test, with a commit at 0 for the group.
func (r *rig) topic(group, short string, partitions int32) string {
	r.t.Helper()
	name := "t." + r.name + "." + short
	r.ensure(partitions, name)
	if group != "" {
		r.commitZero(group, name, partitions)
	}
	return name
}

func (r *rig) commitZero(group, topic string, partitions int32) {
	r.t.Helper()
	if err := r.bus().tuneGroups(r.t.Context(), []schemas.Topic{{Groups: []string{group}}}); err != nil {
		r.t.Fatal(err)
	}
	os := kadm.Offsets{}
	for p := range partitions {
		os.Add(kadm.Offset{Topic: topic, Partition: p, At: 0, LeaderEpoch: -1})
	}
	eventually(r.t, 30*time.Second, "commit of offset 0", func() bool {
		return r.admin.CommitAllOffsets(r.t.Context(), group, os) == nil
	})
}

func (r *rig) bus(change ...func(*Config)) *Bus {
	r.t.Helper()
	cfg := Config{Seeds: r.seeds}
	if testing.Verbose() && os.Getenv("QSTREAM_TEST_LOG") != "" {
		cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	for _, c := range change {
		c(&cfg)
	}
	b, err := Dial(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(b.Close)
	return b
}

// put publishes n numbered records.
func (r *rig) put(b *Bus, topic string, from, n int) {
	r.t.Helper()
	var rs []*Record
	for i := range n {
		s := fmt.Sprint(from + i)
		rs = append(rs, &Record{Topic: topic, Partition: AnyPartition, Key: []byte(s), Value: []byte(s)})
	}
	if err := b.Publish(r.t.Context(), rs...); err != nil {
		r.t.Fatal(err)
	}
}

// values counts the values that a topic holds.
func (r *rig) values(b *Bus, topic string) map[string]int {
	r.t.Helper()
	found := map[string]int{}
	err := b.Read(r.t.Context(), []string{topic}, Start{}, func(rec Record) error {
		found[string(rec.Value)]++
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return found
}

// wantOnce waits for n different values and wants each once.
func (r *rig) wantOnce(b *Bus, topic string, n int) {
	r.t.Helper()
	var got map[string]int
	for end := time.Now().Add(30 * time.Second); len(got) < n; time.Sleep(20 * time.Millisecond) {
		if got = r.values(b, topic); time.Now().After(end) {
			r.t.Fatalf("%d outputs, want %d", len(got), n)
		}
	}
	for _, v := range slices.Sorted(maps.Keys(got)) {
		if got[v] != 1 {
			r.t.Errorf("output %q is there %d times", v, got[v])
		}
	}
	if len(got) != n {
		r.t.Errorf("%d outputs, want %d", len(got), n)
	}
}

func eventually(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("no %s within %v", what, limit)
}

// runner is a shape that runs until stopped.
type runner struct {
	cancel context.CancelFunc
	done   chan error
	once   sync.Once
}

func start(t *testing.T, run func(context.Context) error) *runner {
	ctx, cancel := context.WithCancel(context.Background())
	r := &runner{cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- run(ctx) }()
	t.Cleanup(func() { r.stop(t) })
	return r
}

func (r *runner) stop(t *testing.T) {
	r.once.Do(func() {
		r.cancel()
		select {
		case err := <-r.done:
			if err != nil {
				t.Errorf("shape returned: %v", err)
			}
		case <-time.After(90 * time.Second):
			t.Error("shape did not stop")
		}
	})
}

func (r *rig) client() *kgo.Client { return r.plain }
