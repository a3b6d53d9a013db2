package control

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	pb "qstream/schemas/qstream/v1"
)

// Verbs about webhooks.
const (
	PauseWebhook  = "pause webhook"  // standing: nothing is posted until it is resumed
	ResumeWebhook = "resume webhook" // it goes on where it was
	RewindWebhook = "rewind webhook" // what happened from a time on is posted again
)

// Errors of commands about webhooks.
var (
	// ErrNotPaused is a resume of a webhook that goes on.
	ErrNotPaused = errors.New("the webhook is not paused")
	// ErrResumed is a pause for a reason that began before somebody resumed the
	// webhook: it changes nothing.
	ErrResumed = errors.New("the webhook was resumed since")
	// ErrWebhook is a command about a webhook that names none, or no time.
	ErrWebhook = errors.New("webhook not possible")
)

// Webhook is what stands about a webhook.
type Webhook struct {
	PausedAt      time.Time // zero: it isn't paused
	Actor, Reason string    // of the pause
	RewoundAt     time.Time // append time of the newest rewind; zero: none
	Since         time.Time // to when that was
	Resumed       uint64    // number of the newest resume; 0: none
}

// Paused reports whether nothing may be posted.
func (w Webhook) Paused() bool { return !w.PausedAt.IsZero() }

// Webhook is what stands about a webhook; the zero Webhook: nothing.
func (s *State) Webhook(name string) Webhook { return s.webhooks[name] }

func (c Command) checkWebhook() error {
	about := c.Verb == PauseWebhook || c.Verb == ResumeWebhook || c.Verb == RewindWebhook
	switch {
	case about != (c.Webhook != ""):
		return fmt.Errorf("%w: %s names %q", ErrWebhook, c.Verb, c.Webhook)
	case about && c.Scope != (Scope{}):
		return fmt.Errorf("%w: %s takes a webhook, no scope", ErrScope, c.Verb)
	case (c.Verb == RewindWebhook) == c.Since.IsZero():
		return fmt.Errorf("%w: a time is for a rewind, which needs one", ErrWebhook)
	case c.Before > 0 && c.Verb != PauseWebhook:
		return fmt.Errorf("%w: only a pause comes too late", ErrWebhook)
	}
	return nil
}

// webhooks are what stands about webhooks after a command.
func (f *fold) webhooks(p *pb.Command, c Command) map[string]Webhook {
	if p.Verb == pb.Verb_VERB_SNAPSHOT {
		after := make(map[string]Webhook, len(p.Webhooks))
		for _, o := range p.Webhooks {
			after[o.Webhook] = Webhook{
				PausedAt: timeOf(o.PausedMs), Actor: o.Actor, Reason: o.Reason, RewoundAt: timeOf(o.RewoundMs), Since: timeOf(o.SinceMs),
				Resumed: o.Resumed,
			}
		}
		return after
	}
	w := f.state.webhooks[c.Webhook]
	switch p.Verb {
	case pb.Verb_VERB_PAUSE_WEBHOOK:
		if w.Paused() {
			return f.state.webhooks
		}
		w.PausedAt, w.Actor, w.Reason = c.At, c.Actor, c.Reason
	case pb.Verb_VERB_RESUME_WEBHOOK:
		w.PausedAt, w.Actor, w.Reason, w.Resumed = time.Time{}, "", "", c.Number
	case pb.Verb_VERB_REWIND_WEBHOOK:
		w.RewoundAt, w.Since = c.At, c.Since
	default:
		return f.state.webhooks
	}
	after := map[string]Webhook{}
	maps.Copy(after, f.state.webhooks)
	if after[c.Webhook] = w; w == (Webhook{}) {
		delete(after, c.Webhook)
	}
	return after
}

// webhookOrders are what stands about webhooks as a snapshot keeps it.
func (s *State) webhookOrders() []*pb.WebhookOrder {
	all := make([]*pb.WebhookOrder, 0, len(s.webhooks))
	for name, w := range s.webhooks {
		all = append(all, &pb.WebhookOrder{
			Webhook: name, PausedMs: millis(w.PausedAt), Actor: w.Actor, Reason: w.Reason, RewoundMs: millis(w.RewoundAt), SinceMs: millis(w.Since),
			Resumed: w.Resumed,
		})
	}
	slices.SortFunc(all, func(a, b *pb.WebhookOrder) int { return cmp.Compare(a.Webhook, b.Webhook) })
	return all
}

// timeOf is a time of a record; 0 is none.
func timeOf(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}
