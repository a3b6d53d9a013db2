package bus

import (
	"fmt"
	"testing"
	"time"
)

// TestBegin: a group begins at a time, and keeps what it has.
func TestBegin(t *testing.T) {
	t.Parallel()
	b, _ := newTestBus(t)
	topic := newTopic(t, b, 2)
	var between time.Time
	for i := range 6 {
		if i == 4 {
			time.Sleep(5 * time.Millisecond)
			between = time.Now()
		}
		if err := b.Publish(t.Context(), &Record{Topic: topic.Name, Partition: int32(i % 2), Value: fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
	}
	const group = "test.begin"
	want := func(p0, p1 int64) {
		t.Helper()
		got, err := b.Committed(t.Context(), group, topic.Name)
		if err != nil || got[0] != p0 || got[1] != p1 {
			t.Errorf("commits %v (%v), want %d and %d", got, err, p0, p1)
		}
	}
	if err := b.commit(t.Context(), group, offsets{topic.Name: {1: 1}}); err != nil {
		t.Fatal(err)
	}
	if err := b.Begin(t.Context(), group, []string{topic.Name}, between); err != nil {
		t.Fatal(err)
	}
	want(2, 1)
	if err := b.Begin(t.Context(), group, []string{topic.Name}, time.Time{}); err != nil {
		t.Fatal(err)
	}
	want(2, 1)
	// What aged out before it was read isn't waited for.
	if err := b.Trim(t.Context(), topic.Name, map[int32]int64{0: 1, 1: 2}); err != nil {
		t.Fatal(err)
	}
	if err := b.Begin(t.Context(), group, []string{topic.Name}, time.Time{}); err != nil {
		t.Fatal(err)
	}
	want(2, 2)
}

// TestSome: what is read in parts is read once, in order, and says what is left.
func TestSome(t *testing.T) {
	t.Parallel()
	b, _ := newTestBus(t)
	topic := newTopic(t, b, 3)
	for i := range 30 {
		if err := b.Publish(t.Context(), &Record{Topic: topic.Name, Partition: int32(i % 3), Value: fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
	}
	var from map[int32]int64
	got := map[int32]string{}
	for more, rounds := true, 0; more; rounds++ {
		if rounds > 30 {
			t.Fatal("no end")
		}
		left := 4
		var err error
		from, more, err = b.Some(t.Context(), topic.Name, from, 64, func(r Record) bool {
			if left == 0 {
				return false
			}
			left--
			got[r.Partition] += string(r.Value) + " "
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for p := range int32(3) {
		want := ""
		for i := range 10 {
			want += fmt.Sprint(i*3+int(p)) + " "
		}
		if got[p] != want {
			t.Errorf("partition %d: %s, want %s", p, got[p], want)
		}
	}
}
