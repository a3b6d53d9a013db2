package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A held value is "due in Unix ms|name".
func held(topic, name string, due time.Time) *Record {
	return &Record{Topic: topic, Partition: AnyPartition, Key: []byte(name), Value: fmt.Appendf(nil, "%d|%s", due.UnixMilli(), name)}
}

func holdConfig(group, out string, from *Topics) HoldConfig {
	return HoldConfig{
		Group: group, From: from, Stage: "test",
		Entry: func(r Record) (Entry, error) {
			due, name, ok := strings.Cut(string(r.Value), "|")
			ms, err := strconv.ParseInt(due, 10, 64)
			if !ok || err != nil {
				return Entry{}, fmt.Errorf("not a held value: %w", ErrPoison)
			}
			return Entry{Due: time.UnixMilli(ms), ID: name, Tenant: "acme", Queue: "acme", Destination: "acme.example", Kind: 7}, nil
		},
		Release: func(_ context.Context, e Entry, r Record, pulled bool) ([]Record, error) {
			return []Record{{Topic: out, Partition: AnyPartition, Key: r.Key, Value: []byte(e.ID)}}, nil
		},
	}
}

func (r *rig) hold(b *Bus, cfg HoldConfig) (*Holder, *runner) {
	r.t.Helper()
	h, err := b.Hold(cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	return h, start(r.t, h.Run)
}

func (r *rig) publish(b *Bus, rs ...*Record) {
	r.t.Helper()
	if err := b.Publish(r.t.Context(), rs...); err != nil {
		r.t.Fatal(err)
	}
}

func TestHoldReleasesWhenDue(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.bus()
	group := "g." + r.name
	in, out := r.topic(group, "in", 3), r.topic("", "out", 1)
	soon := time.Now().Add(10 * time.Second)
	var rs []*Record
	for i := range 300 {
		due := time.Now().Add(-time.Second)
		switch i % 3 {
		case 1:
			due = soon
		case 2:
			due = time.Now().Add(time.Hour)
		}
		rs = append(rs, held(in, fmt.Sprint(i), due))
	}
	r.publish(b, rs...)
	h, run := r.hold(b, holdConfig(group, out, NewTopics(in)))
	r.wantOnce(b, out, 100)
	r.wantOnce(b, out, 200)
	if late := time.Since(soon); late < 0 || late > 20*time.Second {
		t.Errorf("released %v after due", late)
	}
	n := 0
	h.Each(func(e Entry) {
		if n++; e.Kind != 7 || e.Tenant != "acme" || e.Appended.IsZero() {
			t.Errorf("entry %+v", e)
		}
	})
	if n != 100 {
		t.Errorf("%d entries, want 100", n)
	}
	run.stop(t)

	// What was released stays so, what waits is still there.
	waiting := map[string]bool{}
	err := b.Waiting(t.Context(), group, []string{in}, Look{}, func(r Record) error { waiting[string(r.Key)] = true; return nil })
	if err != nil || len(waiting) != 100 || !waiting["2"] || waiting["1"] {
		t.Errorf("%d wait, %v", len(waiting), err)
	}
	h, _ = r.hold(b, holdConfig(group, out, NewTopics(in)))
	eventually(t, 20*time.Second, "complete index", func() bool {
		n = 0
		h.Each(func(Entry) { n++ })
		return h.Ready() == nil && n == 100
	})
	r.wantOnce(b, out, 200)
	got, err := h.Pull(t.Context(), func(e Entry) bool { return strings.HasPrefix(e.ID, "29") })
	if err != nil || got != 5 {
		t.Errorf("pulled %d, %v", got, err)
	}
	r.wantOnce(b, out, 205)
	got, err = h.Pull(t.Context(), func(Entry) bool { return true })
	if err != nil || got != 95 {
		t.Errorf("pulled %d, %v", got, err)
	}
	r.wantOnce(b, out, 300)
}

func TestHoldPoisonAndRetry(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.bus()
	group := "g." + r.name
	in, out := r.topic(group, "in", 1), r.topic("", "out", 1)
	cfg := holdConfig(group, out, NewTopics(in))
	var failed atomic.Int64
	plain := cfg.Release
	cfg.Release = func(ctx context.Context, e Entry, rec Record, pulled bool) ([]Record, error) {
		switch e.ID {
		case "later":
			if failed.Add(1) == 1 {
				return nil, errors.New("not now")
			}
		case "bad":
			return nil, fmt.Errorf("can't: %w", ErrPoison)
		}
		return plain(ctx, e, rec, pulled)
	}
	past := time.Now().Add(-time.Minute)
	r.publish(b, held(in, "later", past), held(in, "bad", past), held(in, "fine", past), &Record{Topic: in, Partition: 0, Value: []byte("garbage")})
	_, run := r.hold(b, cfg)
	r.wantOnce(b, out, 2)
	eventually(t, 30*time.Second, "dead records", func() bool { return len(r.dead(b, in)) == 2 })
	run.stop(t)
	_, _ = r.hold(b, cfg)
	time.Sleep(500 * time.Millisecond)
	if n := len(r.dead(b, in)); n != 2 {
		t.Errorf("%d dead records after a restart", n)
	}
	r.wantOnce(b, out, 2)
}

// Members come and go while entries fall due.
func TestHoldRebalances(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	group := "g." + r.name
	pub := r.bus()
	in, out := r.topic(group, "in", 6), r.topic("", "out", 2)
	var rs []*Record
	for i := range 3000 {
		rs = append(rs, held(in, fmt.Sprint(i), time.Now().Add(time.Duration(i)*time.Millisecond)))
	}
	r.publish(pub, rs...)
	var members []*runner
	for i := range 6 {
		_, run := r.hold(r.bus(), holdConfig(group, out, NewTopics(in)))
		members = append(members, run)
		if i%2 == 1 {
			members[0].stop(t)
			members = members[1:]
		}
		time.Sleep(300 * time.Millisecond)
	}
	r.wantOnce(pub, out, 3000)
	time.Sleep(300 * time.Millisecond)
	r.wantOnce(pub, out, 3000)
}

// Outputs may go to the topic that is held itself.
func TestHoldReleasesToItself(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.bus()
	group := "g." + r.name
	in, out := r.topic(group, "in", 1), r.topic("", "out", 1)
	cfg := holdConfig(group, out, NewTopics(in))
	cfg.Release = func(_ context.Context, e Entry, rec Record, _ bool) ([]Record, error) {
		if round := len(e.ID); round < 4 {
			return []Record{*held(in, e.ID+"x", time.Now())}, nil
		}
		return []Record{{Topic: out, Partition: AnyPartition, Value: []byte(e.ID)}}, nil
	}
	r.publish(b, held(in, "x", time.Now()))
	r.hold(b, cfg)
	r.wantOnce(b, out, 1)
}
