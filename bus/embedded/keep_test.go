package embedded

import (
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
		if got := trimmed(topic, false); got != early[topic.Name] {
			t.Errorf("%s with room: %v", topic.Name, got)
		}
		if got := trimmed(topic, true); got != (early[topic.Name] || tight[topic.Name]) {
			t.Errorf("%s without: %v", topic.Name, got)
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
