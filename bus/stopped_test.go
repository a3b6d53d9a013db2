package bus

import (
	"context"
	"testing"
	"time"

	"qstream/schemas"
)

// A commit out of the log's range stops the partition; the one that mends it
// stands, though the partition was owned all the while.
func TestPartitionOutOfRangeGoesOnWhereItIsMended(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.bus()
	group := "g." + r.name
	in, out := r.topic(group, "in", 1), r.topic("", "out", 1)
	r.put(b, in, 0, 20)
	if err := b.Trim(t.Context(), in, map[int32]int64{0: 5}); err != nil {
		t.Fatal(err)
	}
	start(t, func(ctx context.Context) error { return b.Transform(ctx, group, NewTopics(in), copyTo(out)) })
	eventually(t, 30*time.Second, "stopped partition", func() bool { return b.Stopped() != nil })
	// Until the former owner's claim would have been committed as well.
	time.Sleep(10 * commitTick)
	topics := []schemas.Topic{{Name: in, Groups: []string{group}}}
	mended, err := b.Resume(t.Context(), topics, time.Time{}, false)
	if err != nil || len(mended) != 1 || mended[0].At != 5 {
		t.Fatalf("%+v, %v", mended, err)
	}
	r.wantOnce(b, out, 15)
	eventually(t, 30*time.Second, "going on", func() bool { return b.Stopped() == nil })
}
