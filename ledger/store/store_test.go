package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qstream/ledger/fold"
	pb "qstream/schemas/qstream/v1"
)

// message is a message of a time with one recipient: routed, and delivered.
func message(n int, at time.Time, delivered bool) []placed {
	id := genID(n)
	_ = id.SetTime(uint64(at.UnixMilli()))
	e := func(kind pb.EventType) *pb.Event {
		return &pb.Event{
			Type: kind, MessageId: id.String(), AtMs: at.UnixMilli(), Step: 1, Tenant: "acme", Queue: "q", ReversePath: "Ann@sender.example",
			HeaderMessageId: fmt.Sprintf("<%d@sender.example>", n), Outcomes: []*pb.Outcome{{Address: fmt.Sprintf("r%d@acme.example", n)}},
		}
	}
	events := []placed{
		{e(pb.EventType_EVENT_TYPE_ACCEPTED), fold.At{Offset: int64(3 * n)}},
		{e(pb.EventType_EVENT_TYPE_ROUTED), fold.At{Offset: int64(3*n + 1)}},
	}
	if delivered {
		events = append(events, placed{e(pb.EventType_EVENT_TYPE_DELIVERED), fold.At{Offset: int64(3*n + 2)}})
	}
	return events
}

func TestPrune(t *testing.T) {
	s := testStore(t, quick(t))
	defer s.Close()
	old, now := time.Now().Add(-100*time.Hour), time.Now()
	for n := range 50 {
		put(t, s, message(n, old, n != 7)...)
	}
	for n := 50; n < 60; n++ {
		put(t, s, message(n, now, true)...)
	}
	n, err := s.Prune(t.Context(), now.Add(-time.Hour))
	if err != nil || n != 49 {
		t.Fatalf("pruned %d: %v", n, err)
	}
	if n, err := s.Prune(t.Context(), now.Add(-time.Hour)); err != nil || n != 0 {
		t.Fatalf("pruned %d more: %v", n, err)
	}
	counts := map[string]int{}
	for _, table := range []string{"messages", "recipients", "legs", "accounts", "runs"} {
		var n int
		if err := s.read.QueryRow("SELECT count(*) FROM " + table).Scan(&n); err != nil {
			t.Fatal(err)
		}
		counts[table] = n
	}
	// The open message stays, and the account of its hour.
	if diff := cmp.Diff(map[string]int{"messages": 11, "recipients": 11, "legs": 1, "accounts": 2, "runs": 1}, counts); diff != "" {
		t.Error(diff)
	}
	// Events about it go on.
	end := message(7, old, true)[2]
	end.at.Offset = 1000
	put(t, s, end)
	if n, err := s.Prune(t.Context(), now.Add(-time.Hour)); err != nil || n != 1 {
		t.Errorf("pruned %d: %v", n, err)
	}
}

func TestFind(t *testing.T) {
	s := testStore(t, quick(t))
	defer s.Close()
	now := time.Now()
	for n := range 30 {
		put(t, s, message(n, now.Add(time.Duration(n)*time.Minute), true)...)
	}
	for _, c := range []struct {
		kind  fold.Kind
		text  string
		since time.Duration
		want  int
		more  bool
	}{
		{fold.ByRecipient, "R3@ACME.example", 0, 1, false},
		{fold.ByRecipient, "r3@acme.example", 10 * time.Minute, 0, false},
		{fold.ByRecipient, "nobody@acme.example", 0, 0, false},
		{fold.ByHeaderID, "5@sender.example", 0, 1, false},
		{fold.ByHeaderID, " <5@sender.example> ", 0, 1, false},
		{fold.ByReversePath, "ann@SENDER.example", 0, 20, true},
		{fold.ByReversePath, "ann@sender.example", 25 * time.Minute, 5, false},
		{fold.ByReversePath, "", 0, 0, false},
	} {
		ids, more, err := s.Find(t.Context(), c.kind, c.text, now.Add(c.since).Truncate(time.Millisecond), 20)
		if err != nil || len(ids) != c.want || more != c.more {
			t.Errorf("%c %q: %d messages, more %v, %v", c.kind, c.text, len(ids), more, err)
		}
	}
	// The newest come first.
	ids, _, err := s.Find(t.Context(), fold.ByReversePath, "ann@sender.example", now.Add(-time.Hour), 1)
	if err != nil || fold.Hour(ids[0]) != now.Add(29*time.Minute).UnixMilli()/3_600_000 {
		t.Errorf("%v, %v", ids, err)
	}
}

// Keys are looked up, not searched for.
func TestPlans(t *testing.T) {
	s := testStore(t, quick(t))
	defer s.Close()
	for _, query := range []string{
		`SELECT * FROM messages WHERE id IN (VALUES (x'00'), (x'01'))`,
		`SELECT * FROM recipients WHERE (id, number) IN (VALUES (x'00', 1), (x'01', 2))`,
		`SELECT * FROM legs WHERE (id, number) IN (VALUES (x'00', 1), (x'01', 2))`,
		`DELETE FROM legs WHERE (id, number) IN (VALUES (x'00', 1), (x'01', 2))`,
		`SELECT n.id FROM names n WHERE n.run = 3 AND n.hash = 7`,
	} {
		rows, err := s.read.Query("EXPLAIN QUERY PLAN " + query)
		if err != nil {
			t.Fatal(err)
		}
		var plan []string
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			plan = append(plan, detail)
		}
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
		if text := strings.Join(plan, "; "); !strings.HasPrefix(text, "SEARCH") {
			t.Errorf("%s: %s", query, text)
		}
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	s, fresh, err := Open(t.Context(), Options{Dir: dir, Topic: topic})
	if err != nil || fresh == "" {
		t.Fatalf("%q, %v", fresh, err)
	}
	if _, _, err := Open(t.Context(), Options{Dir: dir, Topic: topic}); err == nil {
		t.Error("two have the file")
	}
	put(t, s, message(1, time.Now(), false)...)
	s.Close()
	for _, c := range []struct {
		name  string
		spoil func(path string)
		o     Options
		fresh string
	}{
		{"as it was", func(string) {}, Options{Topic: topic}, ""},
		{"another topic", func(string) {}, Options{Topic: "other"}, "another cluster"},
		{"to be reset", func(string) {}, Options{Topic: "other", Reset: true}, "anew"},
		{"cut", func(path string) { _ = os.Truncate(path, 5000) }, Options{Topic: "other"}, "damaged"},
		{"garbage", func(path string) { _ = os.WriteFile(path, []byte(strings.Repeat("garbage ", 4096)), 0o600) }, Options{Topic: "other"}, "damaged"},
		{"empty", func(path string) { _ = os.Truncate(path, 0) }, Options{Topic: "other"}, "schema"},
		{"gone", func(path string) { _ = os.Remove(path) }, Options{Topic: "other"}, "none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.spoil(filepath.Join(dir, fileName))
			c.o.Dir = dir
			s, fresh, err := Open(t.Context(), c.o)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if (fresh == "") != (c.fresh == "") || !strings.Contains(fresh, c.fresh) {
				t.Errorf("begun anew for %q, want %q", fresh, c.fresh)
			}
			p, err := s.Progress(t.Context())
			if err != nil || (p.Seq == 0) != (fresh != "") {
				t.Errorf("%+v, %v", p, err)
			}
		})
	}
	if _, _, err := Open(t.Context(), Options{Dir: filepath.Join(dir, fileName), Topic: topic}); err == nil {
		t.Error("a file is a directory")
	}
}

// A batch is written as a whole or not at all.
func TestSaveFails(t *testing.T) {
	s, _, err := Open(t.Context(), Options{Dir: quick(t), Topic: topic, MaxBytes: 120 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	put(t, s, message(1, time.Now(), false)...)
	before := dump(t, s)
	var b fold.Batch
	for n := 2; n < 2000; n++ {
		for _, e := range message(n, time.Now(), false) {
			b.Add(e.event, e.at)
		}
	}
	err = s.Save(t.Context(), b.Fold(nil, 0), Progress{Next: map[int32]int64{0: 99}, Seq: 99})
	if err == nil || errors.Is(err, ErrDamaged) {
		t.Fatalf("saved: %v", err)
	}
	if diff := cmp.Diff(before, dump(t, s)); diff != "" {
		t.Error(diff)
	}
}

// TestMode: nobody else may read who wrote to whom, also not a file that was
// made readable.
func TestMode(t *testing.T) {
	dir := quick(t)
	for _, made := range []string{"new", "there already"} {
		s := testStore(t, dir)
		put(t, s, message(1, time.Now(), true)...)
		for _, name := range []string{fileName, fileName + "-wal", fileName + "-shm"} {
			f, err := os.Stat(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if f.Mode().Perm() != 0o600 {
				t.Errorf("%s, %s: %v", name, made, f.Mode())
			}
		}
		s.Close()
		if err := os.Chmod(filepath.Join(dir, fileName), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
