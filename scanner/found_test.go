package scanner

import (
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/directory"
	"qstream/directory/ruling"
	"qstream/engine"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

func malware(name string) ruling.Said {
	return ruling.Said{Verdict: engine.Verdict{Engine: "clam", Outcome: engine.Malware, Name: name}}
}

func failing(reason engine.Reason) ruling.Said {
	return ruling.Said{Verdict: engine.Verdict{Engine: "late", Outcome: engine.Failed, Reason: reason}}
}

func offered(waits uint32) *pb.Rescan {
	return &pb.Rescan{
		Job: "01JD00000000000000000000JB", UntilMs: time.Unix(1000, 0).UnixMilli(),
		Leg: &pb.Leg{
			MessageId: "01JD0000000000000000000001", Number: 3, Step: 4, Tenant: "acme", Queue: "acme", ReversePath: "ann@x.example",
			Recipients: []*pb.Recipient{{Number: 1, Address: "a@acme.example"}, {Number: 2, Address: "b@strict.example"}},
			Content:    &pb.ContentRef{Size: 10}, Scan: &pb.Scan{Waits: waits},
		},
	}
}

// What is bad, whom it is bad for, and what else an offer comes to.
func TestFindAgain(t *testing.T) {
	clean := ruling.Said{Verdict: engine.Verdict{Engine: "rspamd", Outcome: engine.Clean}}
	spam := ruling.Said{Verdict: engine.Verdict{Engine: "rspamd", Outcome: engine.Spam, Score: 20}}
	of := func(o engine.Outcome) ruling.Said {
		return ruling.Said{Verdict: engine.Verdict{Engine: "x", Outcome: o}}
	}
	poison := failing(engine.Broken)
	poison.Poison = true
	for _, c := range []struct {
		name     string
		rules    []directory.ScanRule
		verdicts []ruling.Said
		waits    uint32
		late     bool
		outcome  string // empty: it comes back
		bad      []uint32
	}{
		{"nothing found", nil, []ruling.Said{clean}, 0, false, schemas.OfferClean, nil},
		{"malware", nil, []ruling.Said{malware("E")}, 0, false, schemas.OfferBad, []uint32{1, 2}},
		{"malware that a rule lets pass", []directory.ScanRule{{On: directory.FindMalware, Action: directory.ActPass}}, []ruling.Said{malware("E"), clean}, 0, false, schemas.OfferBad, []uint32{1, 2}},
		{"spam that is tagged", nil, []ruling.Said{spam}, 0, false, schemas.OfferClean, nil},
		{"spam that one domain holds", []directory.ScanRule{{On: directory.FindSpam, Action: directory.ActQuarantine, Domains: []string{"strict.example"}}}, []ruling.Said{spam}, 0, false, schemas.OfferBad, []uint32{2}},
		{"refused", nil, []ruling.Said{of(engine.Refused)}, 0, false, schemas.OfferBad, []uint32{1, 2}},
		{"unscannable", nil, []ruling.Said{of(engine.Unscannable)}, 0, false, schemas.OfferUnscannable, nil},
		{"encrypted", nil, []ruling.Said{of(engine.Encrypted)}, 0, false, schemas.OfferUnscannable, nil},
		{"poison", nil, []ruling.Said{poison}, 0, false, schemas.OfferUnscannable, nil},
		{"engine down", nil, []ruling.Said{clean, failing(engine.Unreachable)}, 0, false, "", nil},
		{"engine down, whatever a rule says of mail on its way", []directory.ScanRule{{On: directory.FindDown, Action: directory.ActTag}}, []ruling.Said{failing(engine.Unreachable)}, 5, false, "", nil},
		{"engine down, and another that a rule has asked nevertheless", []directory.ScanRule{{On: directory.FindDown, Action: directory.ActTag}}, []ruling.Said{failing(engine.Unreachable), clean}, 5, false, "", nil},
		{"the same for too long", []directory.ScanRule{{On: directory.FindDown, Action: directory.ActTag}}, []ruling.Said{failing(engine.Unreachable), clean}, 9, true, schemas.OfferGivenUp, nil},
		{"the same, and it found something", []directory.ScanRule{{On: directory.FindDown, Action: directory.ActTag}}, []ruling.Said{failing(engine.Unreachable), malware("E")}, 9, true, schemas.OfferBad, []uint32{1, 2}},
		{"engine down for too long", nil, []ruling.Said{clean, failing(engine.Unreachable)}, 9, true, schemas.OfferGivenUp, nil},
		{"malware, and another engine down for too long", []directory.ScanRule{{On: directory.FindMalware, Action: directory.ActTag}}, []ruling.Said{malware("E"), failing(engine.Unreachable)}, 9, true, schemas.OfferBad, []uint32{1, 2}},
		{"content gone", nil, []ruling.Said{failing(engine.Unreadable)}, unreadableAfter, false, schemas.OfferGivenUp, nil},
		{"content not there yet", nil, []ruling.Said{failing(engine.Unreadable)}, unreadableAfter - 1, false, "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := &directory.ScanPolicy{Name: "p", Fallback: directory.ActQuarantine, Rules: c.rules}
			o, now := offered(c.waits), time.Unix(500, 0)
			if c.late {
				now = time.Unix(1000, 0)
			}
			before := proto.CloneOf(o)
			sc := scene{snap: &directory.Snapshot{Number: 9}, policy: p, began: now, now: now}
			f := findAgain(o, answer{verdicts: c.verdicts, rulings: ruling.Judge(p, c.verdicts, caseOf(o.Leg, now))}, sc)
			if !proto.Equal(o, before) {
				t.Error("the offer itself is changed")
			}
			if c.outcome == "" {
				if f.again == nil || f.again.Leg.Scan.Waits != c.waits+1 || f.again.DueMs <= now.UnixMilli() || f.again.DueMs > o.UntilMs {
					t.Errorf("%+v", f)
				}
				return
			}
			if f.again != nil || f.result.Outcome != c.outcome || !slices.Equal(f.bad, c.bad) {
				t.Fatalf("%v, bad %v, again %v", f.result, f.bad, f.again)
			}
			var told []uint32
			for _, e := range f.events {
				for _, to := range e.Outcomes {
					told = append(told, to.Number)
				}
				if e.Type != pb.EventType_EVENT_TYPE_FOUND_BAD || e.Job != o.Job || e.Tenant != "acme" || e.Scan.Policy != "p" || e.Scan.Finding == "" || e.Step != 4 || len(e.Scan.Verdicts) == 0 {
					t.Errorf("told by %v", e)
				}
			}
			if !slices.Equal(told, c.bad) {
				t.Errorf("told of %v, want %v", told, c.bad)
			}
		})
	}
}

// The same finding is told once, by whatever job; another one, or of mail that
// is delivered by now, is news.
func TestFoundIsToldOnce(t *testing.T) {
	p := &directory.ScanPolicy{Name: "p"}
	sc := scene{snap: &directory.Snapshot{Number: 9}, policy: p, now: time.Unix(500, 0)}
	found := func(change func(*pb.Rescan), v ruling.Said) (foundAgain, string) {
		o := offered(0)
		change(o)
		f := findAgain(o, answer{verdicts: []ruling.Said{v}, rulings: ruling.Judge(p, []ruling.Said{v}, caseOf(o.Leg, sc.now))}, sc)
		if len(f.events) == 0 {
			return f, ""
		}
		return f, f.events[0].Id
	}
	_, first := found(func(*pb.Rescan) {}, malware("E"))
	newer := malware("E")
	newer.Signatures, newer.Took = "27125", time.Second
	if f, id := found(func(o *pb.Rescan) { o.Job, o.Found = "01JD00000000000000000000JC", first }, newer); id != "" || !f.result.Told || f.result.Outcome != schemas.OfferBad {
		t.Errorf("told again as %q: %v", id, f.result)
	}
	for name, c := range map[string]struct {
		change func(*pb.Rescan)
		v      ruling.Said
	}{
		"another finding": {func(o *pb.Rescan) { o.Found = first }, malware("F")},
		"it waits":        {func(o *pb.Rescan) { o.Found, o.Waiting = first, true }, malware("E")},
		"another leg":     {func(o *pb.Rescan) { o.Found, o.Leg.Number = first, 4 }, malware("E")},
		"fewer of it":     {func(o *pb.Rescan) { o.Found, o.Leg.Recipients = first, o.Leg.Recipients[:1] }, malware("E")},
	} {
		if f, id := found(c.change, c.v); id == "" || id == first || f.result.Told {
			t.Errorf("%s: told as %q", name, id)
		}
	}
	if _, id := found(func(*pb.Rescan) {}, newer); id != first {
		t.Errorf("the same finding has the ids %s and %s", first, id)
	}
}
