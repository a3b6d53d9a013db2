package replay

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/control"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const small = "Subject: one\r\n\r\nFrom here\r\n>From there\r\n.\r\n"

// history is a bus on which some messages were accepted and had a fate.
type history struct {
	*History
	ids []string
}

// fate is the end of a recipient, for a tenant.
type fate struct {
	tenant string
	end    pb.EventType
}

func newHistory(t *testing.T) *history {
	t.Helper()
	return &history{History: &History{Bus: bustest.New(t)}}
}

// accept puts a message and the events about it on the bus.
func (h *history) accept(t *testing.T, from string, content string, to ...string) string {
	t.Helper()
	id := mail.NewID(time.Now())
	sum := sha256.Sum256([]byte(content))
	r := &pb.Received{
		Id: id, Prepend: []byte("X-Edge: yes\r\n"), HeaderMessageId: "<" + id + "@x.example>",
		Session:  &pb.Session{Id: "s", Protocol: pb.Protocol_PROTOCOL_SMTP, ClientIp: "192.0.2.1"},
		Envelope: &pb.Envelope{ReversePath: from},
		Content:  &pb.Content{Where: &pb.Content_Inline{Inline: []byte(content)}, Size: int64(len(content)), Sha256: sum[:]},
	}
	if len(content) > bus.InlineLimit {
		blob := h.Bus.Create(t.Context(), id, "")
		if _, err := io.WriteString(blob, content); err != nil {
			t.Fatal(err)
		}
		var err error
		if r.Content, err = blob.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	for i, a := range to {
		r.Envelope.Recipients = append(r.Envelope.Recipients, &pb.Recipient{Number: uint32(i), Address: a, Held: true})
	}
	bustest.Put(t, h.Bus, bus.NewReceived(r))
	h.ids = append(h.ids, id)
	return id
}

// tell puts the routed event and the end of each recipient on the bus.
func (h *history) tell(t *testing.T, id string, fates ...fate) {
	t.Helper()
	for i, f := range fates {
		e := func(typ pb.EventType) *pb.Event {
			return &pb.Event{Type: typ, MessageId: id, Leg: uint32(i), Tenant: f.tenant, Queue: f.tenant, Destination: f.tenant + ".example",
				Outcomes: []*pb.Outcome{{Number: uint32(i)}}}
		}
		bustest.Put(t, h.Bus, bus.NewEvent(e(pb.EventType_EVENT_TYPE_ROUTED)))
		if f.end != 0 {
			bustest.Put(t, h.Bus, bus.NewEvent(e(f.end)))
		}
	}
}

const (
	delivered = pb.EventType_EVENT_TYPE_DELIVERED
	bounced   = pb.EventType_EVENT_TYPE_BOUNCED
)

// found are the selected recipients, "index of message:number".
func (h *history) found(t *testing.T, s Selection) []string {
	t.Helper()
	got := []string{}
	err := h.Select(t.Context(), s, func(m *Message) error {
		for _, r := range m.Recipients {
			got = append(got, fmt.Sprintf("%d:%d", slices.Index(h.ids, m.ID()), r.Number))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	return got
}

func TestSelect(t *testing.T) {
	h := newHistory(t)
	began := time.Now().Add(-time.Second)
	a := h.accept(t, "ann@sender.example", small, "bob@acme.example", "eve@other.example")
	h.tell(t, a, fate{"acme", delivered}, fate{"other", bounced})
	b := h.accept(t, "", small, "bob@acme.example", "cat@acme.example")
	h.tell(t, b, fate{"acme", 0}, fate{"acme", pb.EventType_EVENT_TYPE_EXPIRED})
	c := h.accept(t, "joe@b.sender.example", small, "dan@acme.example")
	bustest.Put(t, h.Bus,
		bus.Record{Topic: schemas.Received, Partition: bus.AnyPartition, Key: []byte("x"), Value: []byte("\xff garbage")},
		bus.Record{Topic: schemas.Events, Partition: bus.AnyPartition, Key: []byte("x"), Value: []byte("\xff garbage")})
	for name, c := range map[string]struct {
		s    Selection
		want []string
	}{
		"everything":           {Selection{}, []string{"0:0", "0:1", "1:0", "1:1", "2:0"}},
		"an id":                {Selection{IDs: []string{b}}, []string{"1:0", "1:1"}},
		"an id as typed":       {Selection{IDs: []string{strings.ToLower(b)}}, []string{"1:0", "1:1"}},
		"two ids":              {Selection{IDs: []string{c, a}}, []string{"0:0", "0:1", "2:0"}},
		"a Message-ID":         {Selection{MessageID: a + "@x.example"}, []string{"0:0", "0:1"}},
		"the null path":        {Selection{ReversePath: "<>"}, []string{"1:0", "1:1"}},
		"a sender":             {Selection{ReversePath: "Ann@Sender.Example"}, []string{"0:0", "0:1"}},
		"a sender's domain":    {Selection{ReversePath: "@sender.example"}, []string{"0:0", "0:1"}},
		"a recipient":          {Selection{Recipient: "bob@acme.example"}, []string{"0:0", "1:0"}},
		"a recipient's domain": {Selection{Recipient: "@OTHER.example"}, []string{"0:1"}},
		"a client":             {Selection{Client: "192.0.2.2"}, []string{}},
		"a tenant":             {Selection{Tenant: "acme"}, []string{"0:0", "1:0", "1:1"}},
		"a queue":              {Selection{Queue: "other"}, []string{"0:1"}},
		"a destination":        {Selection{Destination: "OTHER.example"}, []string{"0:1"}},
		"delivered":            {Selection{Outcomes: []string{Delivered}}, []string{"0:0"}},
		"failed":               {Selection{Outcomes: []string{Failed}}, []string{"0:1", "1:1"}},
		"waiting":              {Selection{Outcomes: []string{Waiting}}, []string{"1:0"}},
		"of a tenant":          {Selection{Tenant: "acme", Outcomes: []string{Bounced}}, []string{}},
		"all at once":          {Selection{Tenant: "acme", Outcomes: []string{Failed, Waiting}, Recipient: "cat@acme.example", ReversePath: "<>"}, []string{"1:1"}},
		"before":               {Selection{Until: began}, []string{}},
		"since":                {Selection{Since: began}, []string{"0:0", "0:1", "1:0", "1:1", "2:0"}},
	} {
		if diff := cmp.Diff(c.want, h.found(t, c.s)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	h.Limit = 1
	if err := h.Select(t.Context(), Selection{Tenant: "acme"}, func(*Message) error { return nil }); !errors.Is(err, ErrTooMany) {
		t.Errorf("a selection beyond its limit: %v", err)
	}
}

// judge puts messages on the bus whose recipients scanning said something of:
// the newest of each counts.
func (h *history) judge(t *testing.T) {
	t.Helper()
	say := func(id string, kind pb.EventType, number uint32, tenant, finding, action string) {
		bustest.Put(t, h.Bus, bus.NewEvent(&pb.Event{
			Type: kind, Id: id + finding + action, MessageId: id, Leg: number, Tenant: tenant, Outcomes: []*pb.Outcome{{Number: number}},
			Scan: &pb.Scan{Finding: finding, Action: action},
		}))
	}
	const scanned, quarantined = pb.EventType_EVENT_TYPE_SCANNED, pb.EventType_EVENT_TYPE_QUARANTINED
	twice := h.accept(t, "x@judged.example", small, "u@judged.example", "v@judged.example")
	say(twice, scanned, 0, "judged", "down", "pass")
	h.tell(t, twice, fate{"judged", 0}, fate{"judged", delivered})
	say(twice, quarantined, 0, "judged", "malware", "quarantine")
	bustest.Put(t, h.Bus, bus.NewEvent(&pb.Event{ // what remains after an order: nothing is said anew
		Type: quarantined, Id: "remains", MessageId: twice, Tenant: "judged", Outcomes: []*pb.Outcome{{Number: 0}},
	}))
	say(twice, pb.EventType_EVENT_TYPE_FOUND_BAD, 1, "judged", "spam", "tag")
	say(twice, pb.EventType_EVENT_TYPE_UNSCANNED, 1, "judged", "down", "wait")
	edge := h.accept(t, "x@judged.example", small, "u@judged.example", "v@other.example")
	bustest.Put(t, h.Bus, bus.NewEvent(&pb.Event{
		Type: pb.EventType_EVENT_TYPE_ACCEPTED, MessageId: edge, Outcomes: []*pb.Outcome{{Number: 0}, {Number: 1}},
		Scan: &pb.Scan{Finding: "encrypted", Action: "tag"},
	}))
	h.tell(t, edge, fate{"judged", 0}, fate{"other", 0})
	clean := h.accept(t, "x@judged.example", small, "u@judged.example", "v@judged.example")
	say(clean, scanned, 0, "judged", "", "pass")
	say(clean, pb.EventType_EVENT_TYPE_DISCARDED, 1, "judged", "spam", "discard")
}

// What scanning said last of a recipient's mail selects it, within its scope.
func TestSelectVerdict(t *testing.T) {
	h := newHistory(t)
	h.judge(t)
	for name, c := range map[string]struct {
		s    Selection
		want []string
	}{
		"a finding":           {Selection{Findings: []string{"malware"}}, []string{"0:0"}},
		"one of two findings": {Selection{Findings: []string{"spam", "malware"}}, []string{"0:0", "0:1", "2:1"}},
		"found by the edge":   {Selection{Findings: []string{"encrypted"}}, []string{"1:0", "1:1"}},
		"of a tenant only":    {Selection{Findings: []string{"encrypted"}, Tenant: "other"}, []string{"1:1"}},
		"found in vain":       {Selection{Findings: []string{"down"}}, []string{}},
		"an action":           {Selection{Actions: []string{"quarantine"}}, []string{"0:0"}},
		"passed":              {Selection{Actions: []string{"pass"}}, []string{"2:0"}},
		"discarded by policy": {Selection{Actions: []string{"discard"}}, []string{"2:1"}},
		"found and delivered": {Selection{Findings: []string{"spam"}, Outcomes: []string{Delivered}}, []string{"0:1"}},
		"found and bounced":   {Selection{Findings: []string{"spam"}, Outcomes: []string{Bounced}}, []string{}},
		"found, other action": {Selection{Findings: []string{"spam"}, Actions: []string{"quarantine"}}, []string{}},
	} {
		if diff := cmp.Diff(c.want, h.found(t, c.s)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	h.Limit = 1
	if err := h.Select(t.Context(), Selection{Findings: []string{"spam"}}, func(*Message) error { return nil }); !errors.Is(err, ErrTooMany) {
		t.Errorf("a selection beyond its limit: %v", err)
	}
}

func TestSelectRefuses(t *testing.T) {
	h := &History{}
	now := time.Now()
	for name, s := range map[string]Selection{
		"no id":              {IDs: []string{"x"}},
		"no address":         {Recipient: "bob"},
		"null recipient":     {Recipient: "<>"},
		"no outcome":         {Outcomes: []string{"lost"}},
		"no finding":         {Findings: []string{"clean"}},
		"no action":          {Actions: []string{"wait"}},
		"time runs backward": {Since: now, Until: now},
	} {
		if err := h.Select(t.Context(), s, nil); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// reinjected are the records of the reinject topic by parent.
func reinjected(t *testing.T, b *bus.Bus) map[string]*pb.Reinject {
	t.Helper()
	all := map[string]*pb.Reinject{}
	for _, r := range bustest.Records(t, b, schemas.Reinject) {
		var p pb.Reinject
		if err := proto.Unmarshal(r.Value, &p); err != nil {
			t.Fatal(err)
		}
		if all[p.ParentId] != nil {
			t.Errorf("%s is there twice", p.ParentId)
		}
		all[p.ParentId] = &p
	}
	return all
}

func TestRedeliver(t *testing.T) {
	h := newHistory(t)
	large := "Subject: large\r\n\r\n" + strings.Repeat("0123456789abcde\r\n", 50_000)
	a := h.accept(t, "ann@sender.example", small, "bob@acme.example", "eve@other.example")
	h.tell(t, a, fate{"acme", delivered}, fate{"other", bounced})
	b := h.accept(t, "ann@sender.example", large, "eve@other.example")
	h.tell(t, b, fate{"other", bounced})
	h.accept(t, "ann@sender.example", small, "bob@acme.example")
	job := &Job{ID: mail.NewID(time.Now()), Actor: "op", Reason: "host was broken", Host: "mx.example", Route: "spare", Selection: Selection{Outcomes: []string{Failed}}}
	got, err := h.Redeliver(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Progress{Selected: 2, Recipients: 2, Again: 2}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	all := reinjected(t, h.Bus)
	if len(all) != 2 {
		t.Fatalf("%d messages were put in again", len(all))
	}
	m := all[a]
	if m.Id == a || m.Origin != pb.Origin_ORIGIN_REPLAY || len(m.Envelope.Recipients) != 1 || m.Envelope.Recipients[0].Number != 1 || m.Envelope.Recipients[0].Held || m.BornMs != 0 || m.ByRoute != "spare" {
		t.Errorf("%v", m)
	}
	if head := string(m.Prepend); !strings.HasPrefix(head, "Received: from history ([192.0.2.1])\r\n\tby mx.example with replay-of-"+a+" id "+m.Id) || !strings.HasSuffix(head, "X-Edge: yes\r\n") {
		t.Errorf("%q", head)
	}
	if string(m.Content.GetInline()) != small {
		t.Errorf("%q", m.Content.GetInline())
	}
	body, err := h.Bus.Open(t.Context(), all[b].Content.GetRef())
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(body); err != nil || string(text) != large {
		t.Errorf("%d octets, %v", len(text), err)
	}
	_ = body.Close()

	again, err := h.Resume(t.Context(), job.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(job.Selection, again.Selection); diff != "" || again.Route != job.Route {
		t.Errorf("route %s, %s", again.Route, diff)
	}
	if got, err := h.Redeliver(t.Context(), again); err != nil || got.Again != 0 || got.Before != 2 {
		t.Errorf("the job once more: %+v, %v", got, err)
	}
	if n := len(reinjected(t, h.Bus)); n != 2 {
		t.Errorf("%d messages after the second run", n)
	}
	var acts []string
	if err := control.Acts(t.Context(), h.Bus, bus.Start{}, func(a *pb.Act) {
		acts = append(acts, fmt.Sprintf("%s %s %v %s", a.Action, a.Actor, a.Ended, a.Reason))
	}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"replay op false host was broken", "replay op true host was broken", "replay  false host was broken", "replay  true host was broken"}; !slices.Equal(acts, want) {
		t.Errorf("%q", acts)
	}
	if _, err := h.Resume(t.Context(), mail.NewID(time.Now())); !errors.Is(err, ErrNoJob) {
		t.Errorf("a job that never was: %v", err)
	}
}

// A job that is called off in its midst, and goes on, delivers each message
// once; what it made is not selected by another job.
func TestRedeliverIsResumed(t *testing.T) {
	h := newHistory(t)
	for range 2*batch + 10 {
		h.accept(t, "ann@sender.example", small, "bob@acme.example")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	job := &Job{ID: mail.NewID(time.Now()), Whole: true, Told: func(Progress) { cancel() }}
	got, err := h.Redeliver(ctx, job)
	if !errors.Is(err, context.Canceled) || got.Again == 0 || got.Again == len(h.ids) {
		t.Fatalf("%+v, %v", got, err)
	}
	again, err := h.Resume(t.Context(), job.ID)
	if err != nil {
		t.Fatal(err)
	}
	rest, err := h.Redeliver(t.Context(), again)
	if err != nil || rest.Again+got.Again != len(h.ids) || rest.Before != got.Again {
		t.Errorf("%+v after %+v: %v", rest, got, err)
	}
	if n := len(reinjected(t, h.Bus)); n != len(h.ids) {
		t.Errorf("%d messages were put in again, want %d", n, len(h.ids))
	}
	if n := len(h.found(t, Selection{})); n != len(h.ids) {
		t.Errorf("%d messages are selected afterwards, want %d", n, len(h.ids))
	}
}

// Who can't be told what was done ends a job, and makes nothing twice.
func TestRedeliverTellsNobody(t *testing.T) {
	h := newHistory(t)
	h.accept(t, "ann@sender.example", small, "bob@acme.example")
	h.accept(t, "ann@sender.example", small, "bob@acme.example")
	deaf := errors.New("nobody listens")
	job := &Job{ID: mail.NewID(time.Now()), Rate: 100, Each: func(*Message, string) error { return deaf }}
	if got, err := h.Redeliver(t.Context(), job); !errors.Is(err, deaf) || got.Again != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	if n := len(reinjected(t, h.Bus)); n != 1 { // and none twice
		t.Errorf("%d messages were put in again", n)
	}
}

func TestExport(t *testing.T) {
	h := newHistory(t)
	id := h.accept(t, "ann@sender.example", small, "bob@acme.example")
	dir := filepath.Join(t.TempDir(), "out")
	folder, err := NewFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	var box, short, long bytes.Buffer
	all := []Exporter{folder, NewMbox(&box), NewLines(&short, false), NewLines(&long, true)}
	err = h.Select(t.Context(), Selection{}, func(m *Message) error {
		for _, e := range all {
			if err := e.Add(t.Context(), m); err != nil {
				return err
			}
		}
		return nil
	})
	for _, e := range all {
		err = errors.Join(err, e.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	whole := "X-Edge: yes\r\n" + small
	if text, err := os.ReadFile(filepath.Join(dir, id+".eml")); err != nil || string(text) != whole {
		t.Errorf("%q, %v", text, err)
	}
	if _, err := NewFiles(dir); err == nil {
		t.Error("a folder with files in it was taken")
	}
	_, body, _ := strings.Cut(box.String(), "\n")
	if want := "X-Edge: yes\nSubject: one\n\n>From here\n>>From there\n.\n\n"; body != want || !strings.HasPrefix(box.String(), "From ann@sender.example ") {
		t.Errorf("%q", box.String())
	}
	var line struct {
		Info
		Content []byte `json:"content"`
	}
	if err := json.Unmarshal(long.Bytes(), &line); err != nil || string(line.Content) != whole || line.ID != id || line.Protocol != "SMTP" {
		t.Errorf("%s: %v", long.String(), err)
	}
	if strings.Contains(short.String(), "content") || !strings.Contains(short.String(), `"address":"bob@acme.example"`) {
		t.Errorf("%s", short.String())
	}
}
