package replay

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// What happened after a selection's end takes no memory: narrowing the time
// helps whoever is told that too many may match.
func TestSelectRemembersWhatMayMatch(t *testing.T) {
	h := newHistory(t)
	h.Limit = 3
	for range 2 {
		h.tell(t, h.accept(t, "ann@sender.example", small, "bob@acme.example"), fate{"acme", bounced})
	}
	until := time.Now()
	for range 20 { // of messages that came in much later, and of what was made of those before
		bustest.Put(t, h.Bus,
			bus.NewEvent(&pb.Event{Type: bounced, MessageId: mail.NewID(until.Add(time.Hour)), Tenant: "acme", Outcomes: []*pb.Outcome{{}}}),
			bus.NewEvent(&pb.Event{
				Type: bounced, MessageId: mail.NewID(until), ParentId: h.ids[0], Origin: pb.Origin_ORIGIN_DSN, Tenant: "acme", Outcomes: []*pb.Outcome{{}},
			}))
	}
	want := []string{"0:0", "1:0"}
	if diff := cmp.Diff(want, h.found(t, Selection{Tenant: "acme", Outcomes: []string{Failed}, Until: until})); diff != "" {
		t.Error(diff)
	}
}

// unreadable puts a message on the bus whose content is gone.
func (h *history) unreadable(t *testing.T) string {
	t.Helper()
	id := h.accept(t, "ann@sender.example", strings.Repeat("0123456789abcde\r\n", 4000), "gone@acme.example")
	topic := schemas.Content("default")
	ends, err := h.Bus.Ends(t.Context(), topic)
	if err == nil {
		err = h.Bus.Trim(t.Context(), topic, ends)
	}
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// What can't be read any more isn't put in again, where it would wait for its
// expiry, however young the log takes it to be.
func TestRedeliverUnreadable(t *testing.T) {
	h := newHistory(t)
	h.unreadable(t)
	h.accept(t, "ann@sender.example", small, "bob@acme.example")
	got, err := h.Redeliver(t.Context(), &Job{ID: mail.NewID(time.Now()), Selection: Selection{Recipient: "@acme.example"}})
	if err != nil || got.Again != 1 || got.Unreadable != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}

// An export holds what can be read, whole, and says what can't.
func TestExportUnreadable(t *testing.T) {
	h := newHistory(t)
	lost := h.unreadable(t)
	h.accept(t, "ann@sender.example", small, "bob@acme.example")
	dir := filepath.Join(t.TempDir(), "out")
	eml, err := NewFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	var mbox, lines bytes.Buffer
	for name, e := range map[string]Exporter{"eml": eml, "mbox": NewMbox(&mbox), "json": NewLines(&lines, true)} {
		passed := 0
		err := h.Select(t.Context(), Selection{}, func(m *Message) error {
			err := e.Add(context.WithoutCancel(t.Context()), m)
			if errors.Is(err, ErrUnreadable) && m.ID() == lost {
				passed++
				return nil
			}
			return err
		})
		if err := errors.Join(err, e.Close()); err != nil || passed != 1 {
			t.Errorf("%s: %d passed over, %v", name, passed, err)
		}
	}
	if n := strings.Count(mbox.String(), "From ann@sender.example "); n != 1 || strings.Contains(mbox.String(), lost) {
		t.Errorf("%d messages in the mailbox:\n%s", n, mbox.String())
	}
	if n := bytes.Count(lines.Bytes(), []byte("\n")); n != 1 || bytes.Contains(lines.Bytes(), []byte(lost)) {
		t.Errorf("%d lines:\n%s", n, lines.String())
	}
	if there, err := os.ReadDir(dir); err != nil || len(there) != 1 {
		t.Errorf("%v, %v", there, err)
	}
}

// A job that goes on after reinject has lost what it took delivers nothing
// twice: the events tell what it made.
func TestResumeLate(t *testing.T) {
	h := newHistory(t)
	h.accept(t, "ann@sender.example", small, "bob@acme.example")
	h.accept(t, "ann@sender.example", small, "cat@acme.example")
	made := time.Now().Add(-48 * time.Hour)
	job := &Job{ID: mail.NewID(made), Selection: Selection{Recipient: "@acme.example"}}
	again := mail.DerivedID(idTime(t, job.ID), job.ID+"\x00"+h.ids[0])
	bustest.Put(t, h.Bus, bus.NewEvent(&pb.Event{
		Type: pb.EventType_EVENT_TYPE_ROUTED, MessageId: again, ParentId: h.ids[0], Origin: pb.Origin_ORIGIN_REPLAY, Outcomes: []*pb.Outcome{{}},
	}))
	got, err := h.Redeliver(t.Context(), job)
	if err != nil || got.Again != 1 || got.Before != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}

func idTime(t *testing.T, id string) time.Time {
	t.Helper()
	at, ok := mail.IDTime(id)
	if !ok {
		t.Fatal(id)
	}
	return at
}

// A border in time holds where clocks differ: an event may be older than the
// message it is about, and a message older than the one before it.
func TestSelectBetweenClocks(t *testing.T) {
	var clock atomic.Int64 // of who writes: the broker of these tests keeps a writer's time
	broker := bustest.Start(t)
	writer := broker.Dial(t, bus.Config{Now: func() time.Time { return time.UnixMilli(clock.Load()) }})
	h := &history{History: &History{Bus: broker.Dial(t, bus.Config{})}}
	began := time.Now().Add(time.Minute) // a record of the past would be given up
	put := func(at, told time.Time) {
		t.Helper()
		id := mail.NewID(at)
		h.ids = append(h.ids, id)
		r := bus.NewReceived(&pb.Received{
			Id: id, Envelope: &pb.Envelope{Recipients: []*pb.Recipient{{Address: "bob@acme.example"}}},
			Content: &pb.Content{Where: &pb.Content_Inline{Inline: []byte("x")}, Size: 1},
		})
		r.Partition = 0
		clock.Store(at.UnixMilli())
		bustest.Put(t, writer, r)
		e := bus.NewEvent(&pb.Event{Type: delivered, MessageId: id, Tenant: "acme", Outcomes: []*pb.Outcome{{}}})
		e.Partition = 0
		clock.Store(told.UnixMilli())
		bustest.Put(t, writer, e)
	}
	put(began.Add(time.Second), began.Add(-20*time.Second)) // its broker's clock is behind
	put(began.Add(10*time.Minute+time.Second), began.Add(10*time.Minute+time.Second))
	put(began.Add(9*time.Minute), began.Add(9*time.Minute)) // the clock was set back
	s := Selection{Tenant: "acme", Since: began, Until: began.Add(10 * time.Minute)}
	if diff := cmp.Diff([]string{"0:0", "2:0"}, h.found(t, s)); diff != "" {
		t.Error(diff)
	}
}
