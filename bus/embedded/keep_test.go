package embedded

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qstream/bus"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// Two days later only what a waiting leg refers to, and what the group hasn't
// committed past, is still there.
func TestKeepTrimsWhatNoLegNeeds(t *testing.T) {
	t.Parallel()
	k, err := Start(Config{Dir: t.TempDir(), MinFree: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	b, err := bus.Dial(bus.Config{Seeds: k.Seeds(), Barrier: k.Barrier})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	topics := append(schemas.Sizing{Partitions: 1}.Fixed(), schemas.QueueTopics("acme", 1, schemas.DefaultPool, 1)...)
	if _, err := b.CreateTopics(t.Context(), topics, bus.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	// Ten messages with content, of which the sixth waits in a queue.
	for i := range 10 {
		ref := stored(t, b, i)
		if i == 5 {
			leg := bus.NewLeg(schemas.Queue("acme", 1), &pb.Leg{MessageId: ref.MessageId, Content: ref, Destination: "x"})
			if err := b.Publish(t.Context(), &leg); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Publish(t.Context(), received(i)); err != nil {
			t.Fatal(err)
		}
	}
	later := Keeping{Bus: b, Topics: func() []schemas.Topic { return topics }, Now: func() time.Time { return time.Now().Add(48 * time.Hour) }}
	if err := k.keepOnce(t.Context(), Keeping{Bus: b, Topics: later.Topics, Now: time.Now}); err != nil {
		t.Fatal(err)
	}
	wantOldest(t, b, map[string]int64{schemas.Received: 0, schemas.Content("default"): 0})
	if err := k.keepOnce(t.Context(), later); err != nil {
		t.Fatal(err)
	}
	// The router has committed nothing: all that was received still waits.
	wantOldest(t, b, map[string]int64{schemas.Received: 0, schemas.Content("default"): 10, schemas.Queue("acme", 1): 0})
}

// What isn't mail goes when its retention is over, and no day earlier.
func TestKeepSparesWhatIsNoMail(t *testing.T) {
	early := map[string]bool{
		schemas.Received: true, schemas.Reinject: true, schemas.Content("default"): true, schemas.Hold: true,
		schemas.Parked: true, schemas.Quarantine: true, schemas.Rescan: true,
	}
	for _, topic := range schemas.DelayTopics() {
		early[topic] = true
	}
	tight := map[string]bool{schemas.Events: true, schemas.Greylist: true}
	topics := schemas.FixedTopics()
	for _, more := range [][]schemas.Topic{
		schemas.TapTopics("a"), schemas.Sizing{}.TenantEvents("a", 0), schemas.QueueTopics("a", 1, schemas.DefaultPool, 1), schemas.ScanTopics("a", 1, schemas.DefaultPool, 1),
	} {
		topics = append(topics, more...)
	}
	early[schemas.Queue("a", 1)], early[schemas.Scan("a", 1)], tight[schemas.TenantEvents("a")] = true, true, true
	for _, topic := range topics {
		for _, room := range []bool{true, false} {
			want := topic.Retention
			if early[topic.Name] || tight[topic.Name] && !room {
				want = keepAge
			}
			if got := kept(topic, !room, keepAge); got != want {
				t.Errorf("%s with room %t: %v, want %v", topic.Name, room, got, want)
			}
		}
	}
}

// oldest is the offset that partition 0 of a topic starts at.
func oldest(t *testing.T, b *bus.Bus, topic string) int64 {
	t.Helper()
	starts, err := b.Starts(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	return starts[0]
}

// keeping is a broker whose housekeeping is looked at.
type keeping struct {
	*Broker
	bus    *bus.Bus
	topics []schemas.Topic
}

func newKeeping(t *testing.T, cfg Config, more ...schemas.Topic) *keeping {
	t.Helper()
	cfg.Dir, cfg.MinFree = t.TempDir(), 1
	k, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	b, err := bus.Dial(bus.Config{Seeds: []string{k.Addr()}, Dial: k.Dial, Barrier: k.Barrier})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	topics := append(schemas.Sizing{Partitions: 1}.Fixed(), more...)
	if _, err := b.CreateTopics(t.Context(), topics, bus.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return &keeping{k, b, topics}
}

// later is housekeeping after a time.
func (k *keeping) later(t *testing.T, after time.Duration) {
	t.Helper()
	err := k.keepOnce(t.Context(), Keeping{
		Bus: k.bus, Topics: func() []schemas.Topic { return k.topics }, Now: func() time.Time { return time.Now().Add(after) },
	})
	if err != nil {
		t.Fatal(err)
	}
}

// tick writes as a vault does.
func (k *keeping) tick(t *testing.T) {
	t.Helper()
	if err := k.bus.Publish(t.Context(), &bus.Record{Topic: schemas.VaultOrders, Value: []byte("sealed")}); err != nil {
		t.Fatal(err)
	}
}

// Content that nobody waits for goes after a day; where a vault writes, whose
// sinks may be away, when its retention is over.
func TestKeepForVault(t *testing.T) {
	t.Parallel()
	content := schemas.Content("default")
	row, _ := schemas.ByName(content)
	for _, c := range []struct {
		name  string
		vault bool
		after time.Duration
		want  int64
	}{
		{"no vault, a day", false, keepAge - time.Hour, 0},
		{"no vault, more", false, keepAge + time.Hour, 19},
		{"a vault, a day", true, keepAge + time.Hour, 0},
		{"a vault, nearly the retention", true, row.Retention - time.Hour, 0},
		{"a vault, beyond it", true, row.Retention + time.Hour, 19},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newKeeping(t, Config{})
			for i := range 10 {
				stored(t, k.bus, i)
			}
			if c.vault {
				k.tick(t)
			}
			k.later(t, c.after)
			if got := oldest(t, k.bus, content); got != c.want {
				t.Errorf("content starts at %d, want %d", got, c.want)
			}
			if k.Keeps() != 0 {
				t.Errorf("with room mail is kept %v at least, want what topics say", k.Keeps())
			}
		})
	}
}

// A disk that fills up is made room on, whatever a vault's sinks lack: the oldest
// days go, and no more of them than it takes.
func TestKeepForVaultOldestGoesFirst(t *testing.T) {
	t.Parallel()
	const ofEach = 66 // of 512 KiB each: two segments and a bit
	content := schemas.Content("default")
	k := newKeeping(t, Config{MaxBytes: 160 << 20})
	for _, age := range []time.Duration{6, 4, 2} {
		b, err := bus.Dial(bus.Config{
			Seeds: []string{k.Addr()}, Dial: k.Dial, Barrier: k.Barrier, Timeout: 7 * keepAge, // which counts from Now
			Now: func() time.Time { return time.Now().Add(-age * keepAge) },
		})
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		for range ofEach {
			value := make([]byte, 512<<10)
			_, _ = rand.Read(value) // doesn't compress
			if err := b.Publish(t.Context(), &bus.Record{Topic: content, Value: value}); err != nil {
				t.Fatal(err)
			}
		}
	}
	k.tick(t)
	k.later(t, 0)
	if got := oldest(t, k.bus, content); got != ofEach {
		t.Errorf("content starts at %d, want %d: what is six days old is gone, what is four days old is there", got, ofEach)
	}
	if k.Keeps() != 0 {
		t.Error("there is no room yet")
	}
}

// Nothing younger than a day goes, however full it is.
func TestKeepForVaultMakesRoom(t *testing.T) {
	t.Parallel()
	content := schemas.Content("default")
	k := newKeeping(t, Config{MaxBytes: 1}) // always more than half of it is taken
	for i := range 10 {
		stored(t, k.bus, i)
	}
	k.tick(t)
	if k.Keeps() != keepAge {
		t.Errorf("without room mail is kept %v at least, want %v", k.Keeps(), keepAge)
	}
	k.later(t, keepAge-time.Hour)
	if got := oldest(t, k.bus, content); got != 0 {
		t.Errorf("within a day content starts at %d", got)
	}
	k.later(t, keepAge+time.Hour)
	if got := oldest(t, k.bus, content); got != 19 {
		t.Errorf("after a day content starts at %d, want 19", got)
	}
}

// take lets a group take the first n records of a topic.
func (k *keeping) take(t *testing.T, topic, group string, n int64) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	err := k.bus.Transform(ctx, group, bus.NewTopics(topic), func(ctx context.Context, _ []byte, r bus.Record) ([]bus.Record, []byte, error) {
		if r.Offset < n {
			return nil, nil, nil
		}
		stop()
		return nil, nil, errors.New("no more")
	})
	if err != nil {
		t.Fatal(err)
	}
	if at, err := k.bus.Committed(t.Context(), group, topic); err != nil || at[0] != n {
		t.Fatalf("%s stands at %d, want %d (%v)", group, at[0], n, err)
	}
}

// What an archive's sink hasn't taken stays, as long as that takes: where it was
// stored, and where it was copied to hold. What it took goes.
func TestKeepForArchive(t *testing.T) {
	t.Parallel()
	content, tap := schemas.Content("default"), schemas.Tap("copies")
	k := newKeeping(t, Config{}, schemas.Sizing{}.Tap("copies", 1, 0)...)
	b := k.bus
	for i := range 5 {
		ref := stored(t, b, i)
		held, err := b.Keep(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		r := bus.NewTapped(&pb.Tapped{MessageId: ref.MessageId, Archive: "copies", Full: true, Content: ref})
		s := bus.NewArchiveState(&pb.ArchiveState{Archive: "copies", Offset: int64(i) + 1, Kept: held})
		if err := b.Publish(t.Context(), &r, &s); err != nil {
			t.Fatal(err)
		}
	}
	k.later(t, 30*keepAge)
	for _, topic := range []string{content, schemas.Hold, tap} {
		if got := oldest(t, b, topic); got != 0 {
			t.Errorf("while all of it waits %s starts at %d", topic, got)
		}
	}
	k.take(t, tap, schemas.SinkGroup("copies"), 3)
	k.later(t, 30*keepAge)
	for _, topic := range []string{content, schemas.Hold} {
		if got := oldest(t, b, topic); got != 6 { // two chunks each
			t.Errorf("once three of five were taken %s starts at %d, want 6", topic, got)
		}
	}
	// What is gone although it waits keeps nothing else.
	if err := b.Trim(t.Context(), schemas.Hold, map[int32]int64{0: 8}); err != nil {
		t.Fatal(err)
	}
	k.later(t, 30*keepAge)
	for topic, want := range map[string]int64{content: 6, schemas.Hold: 8} {
		if got := oldest(t, b, topic); got != want {
			t.Errorf("with a gap %s starts at %d, want %d", topic, got, want)
		}
	}
}

// stored is content of two chunks.
func stored(t *testing.T, b *bus.Bus, i int) *pb.ContentRef {
	t.Helper()
	w := b.Create(t.Context(), string(rune('A'+i)), "")
	defer w.Abort()
	if _, err := io.CopyN(w, zeros{}, bus.ChunkSize+1); err != nil {
		t.Fatal(err)
	}
	c, err := w.Commit()
	if err != nil {
		t.Fatal(err)
	}
	return c.GetRef()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// wantOldest compares the oldest record of each topic's partition 0.
func wantOldest(t *testing.T, b *bus.Bus, want map[string]int64) {
	t.Helper()
	for topic, offset := range want {
		first := int64(-1)
		err := b.Read(t.Context(), []string{topic}, bus.Start{}, func(r bus.Record) error {
			if first < 0 {
				first = r.Offset
			}
			return nil
		})
		if err != nil || first != offset {
			t.Errorf("%s starts at %d, want %d (%v)", topic, first, offset, err)
		}
	}
}

// However old everything is, a partition goes on where it was after a start:
// its groups' commits would lie behind its end otherwise.
func TestTrimmedPartitionsKeepTheirEnds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	topics := schemas.Sizing{Partitions: 1}.Fixed()
	ends := func(b *bus.Bus) map[string]int64 {
		out := map[string]int64{}
		for _, row := range topics {
			end, err := b.Ends(t.Context(), row.Name)
			if err != nil {
				t.Fatal(err)
			}
			out[row.Name] = end[0]
		}
		return out
	}
	var before map[string]int64
	for run := range 2 {
		k, b := open(t, Config{Dir: dir, MinFree: 1})
		if run == 1 {
			if diff := cmp.Diff(before, ends(b)); diff != "" {
				t.Errorf("ends after a start (-before +after):\n%s", diff)
			}
			b.Close()
			k.Close()
			return
		}
		if _, err := b.CreateTopics(t.Context(), topics, bus.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			stored(t, b, i)
			e := bus.NewEvent(&pb.Event{MessageId: "m"})
			if err := b.Publish(t.Context(), received(i), &e); err != nil {
				t.Fatal(err)
			}
		}
		err := k.keepOnce(t.Context(), Keeping{
			Bus: b, Topics: func() []schemas.Topic { return topics },
			Now: func() time.Time { return time.Now().Add(1000 * 24 * time.Hour) },
		})
		if err != nil {
			t.Fatal(err)
		}
		before = ends(b)
		wantOldest(t, b, map[string]int64{schemas.Events: 9, schemas.Content("default"): 19})
		b.Close()
		k.Close()
	}
}
