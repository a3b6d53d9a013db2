package vault

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
	"qstream/tapper/vault/docket"
	"qstream/tapper/vault/order"
)

func TestLeaves(t *testing.T) {
	day := 24 * time.Hour
	at := time.Unix(1_800_000_000, 0)
	kept := retentions{"mail": 7 * day, "short": 2 * time.Hour, "ever": -1}
	for _, c := range []struct {
		name   string
		kept   retentions
		stands []stand
		after  time.Duration
		leaves time.Duration // after at; 0: never
		soon   bool
	}{
		{"fresh", kept, []stand{{"mail", at}}, time.Hour, 7 * day, false},
		{"a day before", kept, []stand{{"mail", at}}, 6 * day, 7 * day, true},
		{"just before that", kept, []stand{{"mail", at}}, 6*day - 1, 7 * day, false},
		{"half of what is short", kept, []stand{{"short", at}}, time.Hour, 2 * time.Hour, true},
		{"not half of it", kept, []stand{{"short", at}}, time.Hour - 1, 2 * time.Hour, false},
		{"the first of two", kept, []stand{{"mail", at}, {"short", at}}, time.Hour, 2 * time.Hour, true},
		{"content that is older than its message", kept, []stand{{"mail", at}, {"mail", at.Add(-6 * day)}}, 0, day, true},
		{"for ever", kept, []stand{{"ever", at}}, 4000 * day, 0, false},
		{"unknown: the shortest", kept, []stand{{"new", at}}, time.Hour, 2 * time.Hour, true},
		{"unknown, where others are kept for long: two days", retentions{"mail": 7 * day}, []stand{{"new", at}}, day, 2 * day, true},
		{"unknown, where others are kept for ever: two days", retentions{"ever": -1}, []stand{{"new", at}}, day - 1, 2 * day, false},
		{"nothing known: two days", nil, []stand{{"mail", at}}, day, 2 * day, true},
		{"nothing known: no alarm before a day", nil, []stand{{"mail", at}}, day - 1, 2 * day, false},
		{"no place", kept, nil, 6 * day, 0, false},
	} {
		leaves, soon := c.kept.leaves(c.stands, at.Add(c.after))
		want := time.Time{}
		if c.leaves > 0 {
			want = at.Add(c.leaves)
		}
		if !leaves.Equal(want) || soon != c.soon {
			t.Errorf("%s: leaves at %v, soon %t; want %v, %t", c.name, leaves, soon, want, c.soon)
		}
	}
}

// alarms are the audit's about an order.
func (p *tapper) alarms(id string) (told []string) {
	t := p.s.t
	t.Helper()
	err := p.docket.Acts(t.Context(), time.Time{}, time.Time{}, func(a docket.Act) error {
		if a.Action == "alarm" && a.Subject == id {
			told = append(told, a.Detail)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return told
}

func (p *tapper) report(id string) *Report {
	p.s.t.Helper()
	r, err := p.Gaps(p.s.t.Context(), id)
	if err != nil {
		p.s.t.Fatal(err)
	}
	return r
}

// deadSink makes an order whose sink fails until it is mended.
func (p *tapper) deadSink() (id, dir string, mend func()) {
	t := p.s.t
	t.Helper()
	dir = filepath.Join(p.s.sinks, "dead")
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // a file where a folder should be
		t.Fatal(err)
	}
	id = p.approve(order.Order{Who: []order.Rule{{Recipient: "bob@acme.example"}}, What: order.Full, Sink: "maildir:" + dir})
	return id, dir, func() {
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
	}
}

// kinds of gaps, and how many there are.
func kindsOf(r *Report) map[string]int {
	found := map[string]int{}
	for _, g := range r.Gaps {
		found[g.What]++
	}
	return found
}

// Content that a failing sink hasn't taken is told of before it leaves its
// topic, by what the broker really keeps: in the audit once a day, and in the
// gap report. While there is time nothing is told.
func TestLeavingContentIsAlarmed(t *testing.T) {
	s := newSystem(t)
	var ahead atomic.Int64
	s.now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	for _, topic := range []string{schemas.Received, schemas.Content(schemas.DefaultClass)} {
		if err := bustest.Configure(t.Context(), s.broker.Seeds, topic, map[string]string{"retention.ms": fmt.Sprint((20 * time.Hour).Milliseconds())}); err != nil {
			t.Fatal(err)
		}
	}
	p := s.start()
	id, dir, mend := p.deadSink()
	for range 3 {
		s.put("bob@acme.example")
	}
	s.putLarge("bob@acme.example")
	eventually(t, "all is in the lanes", func() bool { return p.report(id).Open == 8 })
	again := func(d time.Duration) {
		t.Helper()
		p.stop() // a sink that fails is tried again at once after a start
		ahead.Store(int64(d))
		p = s.start()
		eventually(t, "what topics keep is known", func() bool { return p.kept() != nil && p.set.Active() })
	}
	again(9 * time.Hour)
	if r := p.report(id); len(r.Gaps) > 0 {
		t.Errorf("hours before, the report has %v", r.Gaps)
	}
	again(11 * time.Hour)
	eventually(t, "an alarm", func() bool { return len(p.alarms(id)) > 0 })
	if told := p.alarms(id); len(told) != 1 || !strings.Contains(told[0], "the sink fails; content of copies leaves the topics from ") {
		t.Errorf("the audit says %q", told)
	}
	if r := p.report(id); !maps.Equal(kindsOf(r), map[string]int{GapLeaving: 4}) {
		t.Errorf("the report has %v", r.Gaps)
	}
	mend()
	again(11 * time.Hour)
	p.complete(id, 4)
	if n := len(s.objects(dir)); n != 8 {
		t.Errorf("%d objects at the sink", n)
	}
	if told := p.alarms(id); len(told) > 2 { // one more if it failed once after the start
		t.Errorf("the audit says %q", told)
	}
}

// Content that is gone before a sink took it, or its message with it, is told
// of by its number, in the audit and in the gap report; what comes behind it
// reaches the sink.
func TestGoneContentIsAlarmed(t *testing.T) {
	s := newSystem(t)
	p := s.start()
	id, dir, mend := p.deadSink()
	for range 3 {
		s.put("bob@acme.example")
	}
	s.putLarge("bob@acme.example")
	eventually(t, "all is in the lanes", func() bool { return p.report(id).Open == 8 })
	p.stop()
	s.trim(schemas.Received)
	s.put("bob@acme.example")
	s.putLarge("bob@acme.example")
	s.trim(schemas.Content(schemas.DefaultClass)) // its message stays
	s.put("bob@acme.example")
	p = s.start()
	mend()
	var r *Report
	eventually(t, "the sink has what there is", func() bool {
		r = p.report(id)
		return r.Copies == 7 && r.Open == 0 && r.Unread == 0
	})
	if !maps.Equal(kindsOf(r), map[string]int{GapLost: 5}) {
		t.Errorf("the report has %v", r.Gaps)
	}
	var lost []string
	for _, g := range r.Gaps {
		lost = append(lost, fmt.Sprintf("copy %s-%02d-%s can't be had any more, its sink doesn't have it", id, g.Lane, strings.TrimPrefix(g.Detail, "number ")))
	}
	told := p.alarms(id)
	slices.Sort(lost)
	slices.Sort(told)
	if !slices.Equal(slices.Compact(told), lost) { // a process that ended may have told it before
		t.Errorf("the audit says %q, want %q", told, lost)
	}
	if n := len(s.objects(dir)); n != 2+7 {
		t.Errorf("%d objects at the sink, want 2 copies and 7 outcomes", n)
	}
}

// trim removes all that a topic has.
func (s *system) trim(topic string) {
	s.t.Helper()
	ends, err := s.bus.Ends(s.t.Context(), topic)
	if err == nil {
		err = s.bus.Trim(s.t.Context(), topic, ends)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// putLarge is put with content apart from its message.
func (s *system) putLarge(rcpt string) {
	s.t.Helper()
	id := mail.NewID(time.Now())
	w := s.bus.Create(s.t.Context(), id, "")
	defer w.Abort()
	_, err := fmt.Fprintf(w, "Subject: large\r\n\r\n%s", strings.Repeat("Text and more of it.\r\n", 4000))
	var content *pb.Content
	if err == nil {
		content, err = w.Commit()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	if content.GetRef() == nil {
		s.t.Fatal("content is inline")
	}
	r := bus.NewReceived(&pb.Received{
		Id: id, Envelope: &pb.Envelope{ReversePath: "sender@one.example", Recipients: []*pb.Recipient{{Address: rcpt}}}, Content: content,
	})
	e := bus.NewEvent(&pb.Event{
		Type: pb.EventType_EVENT_TYPE_DELIVERED, MessageId: id, Leg: 1, Step: 1, AtMs: time.Now().UnixMilli(), Outcomes: []*pb.Outcome{{Address: rcpt}},
	})
	for _, record := range []*bus.Record{&r, &e} {
		if err := s.bus.Publish(s.t.Context(), record); err != nil {
			s.t.Fatal(err)
		}
	}
}
