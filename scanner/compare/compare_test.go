package compare

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	pb "qstream/schemas/qstream/v1"
)

func event(t testing.TB, value []byte) *pb.Event {
	t.Helper()
	e := &pb.Event{}
	if err := proto.Unmarshal(value, e); err != nil {
		t.Fatal(err)
	}
	return e
}

var start = time.UnixMilli(1_763_900_000_000).UTC()

// What is counted is what the report tells, over several tallies, tenants and
// policies, however often a record is read.
func TestReport(t *testing.T) {
	acme, beta := Key{"acme", "q1", "p", "next"}, Key{"beta", "q1", "p", "next"}
	var events []*pb.Event
	tell := func(k Key, fill func(*Tally)) {
		var tally Tally
		fill(&tally)
		events = append(events, event(t, tally.Record(k, "scanner", start.Add(time.Minute)).Value))
	}
	tell(acme, func(t *Tally) {
		t.Count(start, "pass", "pass")
		t.Count(start, "pass", "pass")
		t.Count(start, "pass", "quarantine")
		t.Took(false, "clam", 3*time.Millisecond)
		t.Took(true, "other", 100*time.Millisecond)
	})
	tell(Key{"acme", "q2", "p", "next"}, func(t *Tally) {
		t.Miss(start.Add(-time.Hour), 7)
		t.Count(start, "tag", "pass")
		t.Took(true, "other", time.Second)
	})
	tell(beta, func(t *Tally) { t.Count(start, "pass", "pass") })
	tell(Key{"acme", "q1", "x", "y"}, func(t *Tally) { t.Miss(start, 1) })
	for i, way := range []string{"quarantine", "quarantine", "quarantine", "reject"} {
		events = append(events, &pb.Event{
			MessageId: fmt.Sprint("m", i), AtMs: start.UnixMilli() + int64(i), Tenant: "acme", Queue: "q1", Leg: 2,
			Outcomes: []*pb.Outcome{{Number: 4, Address: "a@acme.example"}},
			Comparison: &pb.Comparison{Policy: "p", Shadow: "next", Partings: []*pb.Parting{{Number: 4, Action: "pass", ShadowAction: way, ShadowFinding: "malware"}},
				ShadowVerdicts: []*pb.Verdict{{Engine: "other", Outcome: "malware", Name: "Eicar"}}},
		})
	}
	events = append(events, events...)
	events = append(events, &pb.Event{Tenant: "acme"}, &pb.Event{Tally: &pb.Tally{}})

	report := func(s Selection) Report {
		f := newFold(s)
		for _, e := range events {
			f.add(e)
		}
		return f.report()
	}
	r := report(Selection{Tenant: "acme", Policy: "next", Examples: 2})
	if len(r.Tenants) != 1 || len(r.Totals) != 1 {
		t.Fatalf("%+v", r)
	}
	got := r.Tenants[0]
	var examples []string
	for _, x := range got.Examples {
		examples = append(examples, fmt.Sprint(x.MessageID, " ", x.Recipient, " ", x.Shadow, " ", x.ShadowSaid))
	}
	if d := cmp.Diff([]string{"m3 a@acme.example reject [other malware Eicar]", "m2 a@acme.example quarantine [other malware Eicar]", "m1 a@acme.example quarantine [other malware Eicar]"}, examples); d != "" {
		t.Error(d)
	}
	got.Examples = nil
	if d := cmp.Diff(Group{
		Tenant: "acme", Policy: "p", Shadow: "next", Compared: 4, Differing: 2, Missed: 7, Since: start.Add(-time.Hour),
		Cells: []Cell{{"pass", "pass", 2}, {"pass", "quarantine", 1}, {"tag", "pass", 1}},
		Engines: []Engine{
			{"clam", false, 1, 4 * time.Millisecond, 4 * time.Millisecond},
			{"other", true, 2, 128 * time.Millisecond, 1024 * time.Millisecond},
		},
	}, got); d != "" {
		t.Error(d)
	}
	if r := report(Selection{Policy: "p"}); len(r.Tenants) != 2 || len(r.Totals) != 1 || r.Totals[0].Compared != 5 || r.Totals[0].Tenant != "" || len(r.Totals[0].Examples) != 0 {
		t.Errorf("%+v", r)
	}
	if r := report(Selection{}); len(r.Tenants) != 3 || len(r.Totals) != 2 || r.Totals[1].Policy != "x" || r.Totals[1].Missed != 1 {
		t.Errorf("%+v", r)
	}
	if r := report(Selection{Tenant: "nobody"}); r.Tenants == nil || len(r.Tenants)+len(r.Totals) != 0 {
		t.Errorf("%+v", r)
	}
}

// A quantile is never below what it stands for, nor twice as long.
func TestQuantiles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		took := rapid.SliceOfN(rapid.Int64Range(0, int64(15*time.Minute)), 1, 50).Draw(t, "took")
		var times Times
		longest := time.Duration(0)
		for _, d := range took {
			times.Add(time.Duration(d))
			longest = max(longest, time.Duration(d))
		}
		var back Times
		back.merge(times.counts())
		if back != times || times.Len() != uint64(len(took)) {
			t.Fatalf("%v came back as %v", times, back)
		}
		if q := times.Quantile(1); q < longest-time.Millisecond || q > max(2*longest, time.Millisecond) {
			t.Fatalf("%v for %v", q, longest)
		}
		if times.Quantile(.5) > times.Quantile(.99) {
			t.Fatal("the median is above the 99th percentile")
		}
	})
	var none, long Times
	long.Add(100 * time.Hour)
	long.merge(make([]uint64, 1000))
	if none.Quantile(.5) != 0 || none.Len() != 0 || long.Quantile(.5) != 1<<20*time.Millisecond {
		t.Errorf("%v, %v", none.Quantile(.5), long.Quantile(.5))
	}
}
