package control

import (
	"errors"
	"testing"
	"time"

	"qstream/bus/bustest"
)

// TestWebhookOrders: what stands about a webhook is the same to whoever
// follows, reads, or starts from a snapshot of the state.
func TestWebhookOrders(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	order := func(c Command) error {
		t.Helper()
		c.Actor, c.Reason = "ann@host", "why"
		_, err := Send(t.Context(), b, c)
		return err
	}
	since := time.UnixMilli(1_763_900_000_000)
	const resumed = 4 // the number of the fourth command
	for _, c := range []Command{
		{Verb: PauseWebhook, Webhook: "crm"}, {Verb: PauseWebhook, Webhook: "other"},
		{Verb: RewindWebhook, Webhook: "crm", Since: since}, {Verb: ResumeWebhook, Webhook: "other"},
	} {
		if err := order(c); err != nil {
			t.Fatal(err)
		}
	}
	check := func(s *State) {
		t.Helper()
		crm, other := s.Webhook("crm"), s.Webhook("other")
		if !crm.Paused() || crm.Actor != "ann@host" || crm.Reason != "why" || !crm.Since.Equal(since) || crm.RewoundAt.Before(since) {
			t.Errorf("crm: %+v", crm)
		}
		if other != (Webhook{Resumed: resumed}) {
			t.Errorf("other: %+v, want it resumed by %d", other, resumed)
		}
	}
	before, err := Read(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	check(before)
	if n, err := Send(t.Context(), b, Command{Verb: PauseWebhook, Webhook: "crm", Reason: "again"}); err != nil || n != before.Number {
		t.Errorf("paused twice: number %d, %v", n, err)
	}
	for range snapshotEvery {
		send(t, b, Flush, Scope{Tenant: "x"})
	}
	f := follow(t, b, nil)
	check(f.State())
	if got := f.State().Webhook("crm"); got != before.Webhook("crm") {
		t.Errorf("%+v became %+v", before.Webhook("crm"), got)
	}
	for _, tt := range []struct {
		c    Command
		want error
	}{
		{Command{Verb: ResumeWebhook, Webhook: "other"}, ErrNotPaused},
		{Command{Verb: PauseWebhook, Webhook: "other", Before: resumed}, ErrResumed},
		{Command{Verb: ResumeWebhook, Webhook: "crm", Before: 1}, ErrWebhook},
		{Command{Verb: PauseWebhook}, ErrWebhook},
		{Command{Verb: Flush, Webhook: "crm"}, ErrWebhook},
		{Command{Verb: RewindWebhook, Webhook: "crm"}, ErrWebhook},
		{Command{Verb: PauseWebhook, Webhook: "crm", Since: since}, ErrWebhook},
		{Command{Verb: PauseWebhook, Webhook: "crm", Scope: Scope{Tenant: "x"}}, ErrScope},
	} {
		if err := order(tt.c); !errors.Is(err, tt.want) {
			t.Errorf("%+v: %v", tt.c, err)
		}
	}
	if w := f.State().Webhook("other"); w.Paused() {
		t.Errorf("a pause of before the resume counted: %+v", w)
	}
	if err := order(Command{Verb: PauseWebhook, Webhook: "other", Before: resumed + 1}); err != nil {
		t.Fatal(err)
	}
	if s, err := Read(t.Context(), b); err != nil || !s.Webhook("other").Paused() {
		t.Errorf("a pause of after the resume didn't count: %+v, %v", s.Webhook("other"), err)
	}
}
