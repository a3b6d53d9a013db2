package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"qstream/ledger/fold"
	pb "qstream/schemas/qstream/v1"
)

const topic = "cluster topic"

type fataler interface {
	Helper()
	Fatalf(string, ...any)
}

// placed is an event where it stands.
type placed struct {
	event *pb.Event
	at    fold.At
}

// put folds events as one batch.
func put(t fataler, s *Store, events ...placed) fold.Result {
	t.Helper()
	ctx := context.Background()
	p, err := s.Progress(ctx)
	if err != nil {
		t.Fatalf("%v", err)
	}
	var b fold.Batch
	for _, e := range events {
		if e.at.Offset < p.Next[e.at.Partition] {
			continue
		}
		p.Seq++
		e.at.Seq = p.Seq
		p.Next[e.at.Partition] = e.at.Offset + 1
		if !b.Add(proto.CloneOf(e.event), e.at) {
			t.Fatalf("%q is no message id", e.event.MessageId)
		}
	}
	known, err := s.Load(ctx, &b)
	if err != nil {
		t.Fatalf("%v", err)
	}
	res := b.Fold(known, 0)
	if err := s.Save(ctx, res, p); err != nil {
		t.Fatalf("%v", err)
	}
	return res
}

// dump is all that a store holds; skip are columns that are left out.
func dump(t fataler, s *Store, skip ...string) []string {
	t.Helper()
	var out []string
	for _, table := range []string{"messages", "recipients", "legs", "accounts", "rates", "names", "runs", "positions"} {
		rows, err := s.read.Query("SELECT * FROM " + table)
		if err != nil {
			t.Fatalf("%v", err)
		}
		columns, err := rows.Columns()
		if err != nil {
			t.Fatalf("%v", err)
		}
		for rows.Next() {
			row := make([]any, len(columns))
			to := make([]any, len(columns))
			for i := range row {
				to[i] = &row[i]
			}
			if err := rows.Scan(to...); err != nil {
				t.Fatalf("%v", err)
			}
			line := table
			nothing := table == "accounts"
			for i, c := range columns {
				if !slices.Contains(skip, c) {
					line += fmt.Sprintf(" %s=%v", c, row[i])
				}
				if n, ok := row[i].(int64); ok && c != "hour" && n != 0 {
					nothing = false
				}
			}
			if !nothing {
				out = append(out, line)
			}
		}
		if err := rows.Close(); err != nil {
			t.Fatalf("%v", err)
		}
	}
	slices.Sort(out)
	return out
}

// genID is one of few messages of two hours.
func genID(n int) fold.ID {
	var id fold.ID
	_ = id.SetTime(uint64(1_800_000_000_000 + n%2*3_600_000))
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return id
}

// genEvents are events such as stages write, and such as they would never
// write, of four messages in two partitions.
func genEvents(t *rapid.T) []placed {
	next := map[int32]int64{}
	var events []placed
	for range rapid.IntRange(1, 40).Draw(t, "events") {
		n := rapid.IntRange(0, 3).Draw(t, "message")
		e := &pb.Event{
			Type:      pb.EventType(rapid.IntRange(1, 15).Draw(t, "type")),
			MessageId: genID(n).String(), AtMs: int64(1_800_000_000_000 + len(events)*20_000),
			Leg:    uint32(rapid.IntRange(0, 2).Draw(t, "leg")),
			Step:   uint64(rapid.IntRange(0, 3).Draw(t, "step")),
			Tenant: rapid.SampledFrom([]string{"acme", "globex"}).Draw(t, "tenant"),
			Queue:  "q", Destination: rapid.SampledFrom([]string{"acme.example", "globex.example"}).Draw(t, "destination"),
			ReversePath: "ann@sender.example", HeaderMessageId: fmt.Sprintf("<%d@sender.example>", n), Size: 7,
			Attempt: uint32(rapid.IntRange(0, 1).Draw(t, "attempt")), Reason: pb.Reason(rapid.IntRange(0, 6).Draw(t, "reason")),
		}
		if e.Type == pb.EventType_EVENT_TYPE_ACCEPTED && n > 1 {
			e.Session = &pb.Session{AuthUser: "ann@acme.example"}
		}
		first := rapid.IntRange(0, 3).Draw(t, "first")
		for i := first; i < first+rapid.IntRange(0, 3).Draw(t, "outcomes"); i++ {
			e.Outcomes = append(e.Outcomes, &pb.Outcome{Number: uint32(i), Address: fmt.Sprintf("r%d@acme.example", i),
				Status: &pb.Status{Code: 450, Text: "busy"}})
		}
		if e.Type == pb.EventType_EVENT_TYPE_DSN {
			e.ChildId = genID(n + 4).String()
			child := &pb.Event{
				Type: pb.EventType_EVENT_TYPE_ROUTED, MessageId: e.ChildId, ParentId: e.MessageId, Tenant: e.Tenant, Queue: "q",
				AtMs: e.AtMs, Origin: pb.Origin_ORIGIN_DSN, Outcomes: []*pb.Outcome{{Address: "ann@sender.example"}},
			}
			if rapid.Bool().Draw(t, "routed") {
				events = append(events, placed{child, fold.At{Partition: 2, Offset: next[2]}})
				next[2] += 2
			}
		}
		p := int32(n % 2)
		events = append(events, placed{e, fold.At{Partition: p, Offset: next[p]}})
		next[p] += int64(rapid.IntRange(1, 300).Draw(t, "gap"))
	}
	return events
}

// quick is a directory in memory where there is one: what is tested here
// doesn't depend on the disk.
func quick(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "qstream-ledger")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// TestBatches: however events are cut into batches, and whether some of it is
// read again after a kill, the tables are the same.
func TestBatches(t *testing.T) {
	root := quick(t)
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		events := genEvents(t)
		whole := testStore(t, filepath.Join(root, fmt.Sprint(n, "a")))
		defer whole.Close()
		put(t, whole, events...)
		cut := testStore(t, filepath.Join(root, fmt.Sprint(n, "b")))
		defer func() { cut.Close() }()
		for rest := events; len(rest) > 0; {
			k := rapid.IntRange(1, len(rest)).Draw(t, "batch")
			put(t, cut, rest[:k]...)
			rest = rest[k:]
			if rapid.IntRange(0, 9).Draw(t, "kill") == 0 {
				cut.Close()
				cut = testStore(t, filepath.Join(root, fmt.Sprint(n, "b")))
				put(t, cut, events[:len(events)-len(rest)]...) // as if nobody knew how far it was
			}
		}
		if diff := cmp.Diff(dump(t, whole), dump(t, cut)); diff != "" {
			t.Fatalf("in one batch (-), in several (+):\n%s", diff)
		}
		check(t, whole)
	})
}

// TestWaits: what batches change adds up to what all legs make.
func TestWaits(t *testing.T) {
	root := quick(t)
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		s := testStore(t, filepath.Join(root, fmt.Sprint(n)))
		defer s.Close()
		sums := fold.Waits{}
		for rest := genEvents(t); len(rest) > 0; {
			k := rapid.IntRange(1, len(rest)).Draw(t, "batch")
			sums.Join(put(t, s, rest[:k]...).Waits)
			rest = rest[k:]
			counted, err := s.Waits(context.Background())
			if err != nil {
				t.Fatalf("%v", err)
			}
			if diff := cmp.Diff(counted, sums); diff != "" {
				t.Fatalf("counted (-), added up (+):\n%s\n%s", diff, strings.Join(dump(t, s), "\n"))
			}
		}
	})
}

// TestOrderOfPartitions: partitions may be read in any order.
func TestOrderOfPartitions(t *testing.T) {
	root := quick(t)
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		events := genEvents(t)
		one := testStore(t, filepath.Join(root, fmt.Sprint(n, "a")))
		defer one.Close()
		put(t, one, events...)
		two := testStore(t, filepath.Join(root, fmt.Sprint(n, "b")))
		defer two.Close()
		for _, p := range rapid.Permutation([]int32{0, 1, 2}).Draw(t, "order") {
			var some []placed
			for _, e := range events {
				if e.at.Partition == p {
					some = append(some, e)
				}
			}
			put(t, two, some...)
		}
		if diff := cmp.Diff(dump(t, one, "seq"), dump(t, two, "seq")); diff != "" {
			t.Fatalf("in order of time (-), by partition (+):\n%s", diff)
		}
	})
}

// TestRepeated: what a broker repeats changes nothing but what was counted.
func TestRepeated(t *testing.T) {
	root := quick(t)
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		events := genEvents(t)
		s := testStore(t, filepath.Join(root, fmt.Sprint(n)))
		defer s.Close()
		put(t, s, events...)
		before := dump(t, s, "offset")
		again := slices.Clone(events)
		for i := range again {
			again[i].at.Offset += 1_000_000
		}
		if res := put(t, s, again...); res.Repeated != len(again) {
			t.Fatalf("%d of %d events repeat", res.Repeated, len(again))
		}
		if diff := cmp.Diff(before, dump(t, s, "offset")); diff != "" {
			t.Fatalf("before (-), after a repetition (+):\n%s", diff)
		}
	})
}

func testStore(t fataler, dir string) *Store {
	t.Helper()
	s, _, err := Open(context.Background(), Options{Dir: dir, Topic: topic})
	if err != nil {
		t.Fatalf("%v", err)
	}
	return s
}

// check holds what must be so in any view.
func check(t fataler, s *Store) {
	t.Helper()
	for what, query := range map[string]string{
		"open recipients without a leg": `SELECT count(*) FROM recipients r WHERE state = 0 AND NOT EXISTS
			(SELECT 1 FROM legs l WHERE l.id = r.id AND l.number = r.leg)`,
		"legs that count their recipients wrongly": `SELECT count(*) FROM legs l WHERE recipients <>
			(SELECT count(*) FROM recipients r WHERE r.id = l.id AND r.leg = l.number AND state = 0)`,
		"recipients without a message": `SELECT count(*) FROM recipients r WHERE NOT EXISTS (SELECT 1 FROM messages m WHERE m.id = r.id)`,
		"accounts off": `SELECT count(*) FROM (
			SELECT tenant, hour, accepted + generated + unopened AS n, delivered, bounced, expired, discarded, again FROM accounts
			WHERE accepted + generated + unopened > 0
			EXCEPT
			SELECT tenant, (SELECT hour FROM accounts a WHERE a.tenant = r.tenant AND hour = h), count(*),
				sum(state = 1), sum(state = 2), sum(state = 3), sum(state = 4), sum(max(ends - 1, 0))
			FROM (SELECT *, CASE WHEN substr(hex(id), 1, 12) >= '01A318933E80' THEN 500001 ELSE 500000 END AS h FROM recipients) r
			GROUP BY tenant, h)`,
	} {
		var n int
		if err := s.read.QueryRow(query).Scan(&n); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if n != 0 {
			t.Fatalf("%s: %d\n%s", what, n, strings.Join(dump(t, s), "\n"))
		}
	}
}
