package directory

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"qstream/bus"
	"qstream/mail"
	"qstream/schemas"
)

// TenantEvents is how a tenant reads its own events from a topic.
type TenantEvents struct {
	Topic     bool          // it has one
	Retention time.Duration // of the topic; default 30 d
	// Principal is whom the brokers let read it, such as "User:acme"; empty:
	// nobody but whom the brokers' operator lets.
	Principal string
	// Since is when the topic was asked for: what happened before isn't on it.
	Since time.Time
}

var tenantEventsKeys = []key[TenantEvents]{
	{"topic", func(e *TenantEvents, v *value) { e.Topic = v.boolean() }},
	{"retention", func(e *TenantEvents, v *value) { e.Retention = v.duration(time.Hour, 400*24*time.Hour) }},
	{"principal", func(e *TenantEvents, v *value) { e.Principal = parsed(v, parsePrincipal) }},
}

// parsePrincipal reads a principal of Kafka. That of everybody is refused.
func parsePrincipal(s string) (string, error) {
	name, ok := strings.CutPrefix(s, "User:")
	switch {
	case !ok || name == "" || mail.Printable(s) != s:
		return "", errors.New("a principal is written User:NAME")
	case name == "*" || name == "ANONYMOUS":
		return "", errors.New("that would let everybody read the tenant's events")
	}
	return s, nil
}

// subscribers are the documents that read events, as refs.
func (s *Snapshot) subscribers() map[string]bool {
	all := map[string]bool{}
	for name := range s.webhooks {
		all[Ref{KindWebhook, name}.String()] = true
	}
	for name, t := range s.tenants {
		if t.Events.Topic {
			all[Ref{KindTenant, name}.String()] = true
		}
	}
	return all
}

// subscribed is since when each subscriber reads events, after a change. One
// that was there goes on; before is nil if it isn't understood: then all that
// are known do.
func (l lineage) subscribedNext(before, after *Snapshot, at time.Time) map[string]int64 {
	next := map[string]int64{}
	var had map[string]bool
	if before != nil {
		had = before.subscribers()
	}
	for ref := range after.subscribers() {
		since, known := l.subscribed[ref]
		if !known || before != nil && !had[ref] {
			since = at.UnixMilli()
		}
		next[ref] = since
	}
	return next
}

// mergeSubscribed takes over what a record says.
func mergeSubscribed(before, told map[string]int64, full bool) map[string]int64 {
	next := map[string]int64{}
	if !full {
		maps.Copy(next, before)
	}
	for ref, since := range told {
		if since == 0 {
			delete(next, ref)
		} else {
			next[ref] = since
		}
	}
	return next
}

// tellSubscribed is what a record says: all, or what differs from before.
func tellSubscribed(now, before map[string]int64, full bool) map[string]int64 {
	told := maps.Clone(now)
	if full {
		return told
	}
	maps.DeleteFunc(told, func(ref string, since int64) bool { return before[ref] == since })
	for ref := range before {
		if _, ok := now[ref]; !ok {
			told[ref] = 0
		}
	}
	return told
}

// subscribe tells the subscribers since when they read; only before anybody
// else has s. Tenants are shared between snapshots, so they are copied.
func (s *Snapshot) subscribe(since map[string]int64) {
	for name, w := range s.webhooks {
		w.Since = sinceOf(since, Ref{KindWebhook, name})
	}
	for name, t := range s.tenants {
		if t.Events.Topic {
			t.Events.Since = sinceOf(since, Ref{KindTenant, name})
		}
	}
}

func sinceOf(since map[string]int64, ref Ref) time.Time {
	if ms := since[ref.String()]; ms > 0 {
		return time.UnixMilli(ms)
	}
	return time.Time{}
}

// eventTopics are the topics of tenants that read their own events.
func (s *Snapshot) eventTopics() []schemas.Topic {
	var topics []schemas.Topic
	for _, t := range s.tenantList {
		if t.Events.Topic {
			topic := schemas.Sizing{}.TenantEvents(t.Name, t.Events.Retention)[0]
			topic.Reader, topic.ReaderOf = t.Events.Principal, t.Name+"."
			topics = append(topics, topic)
		}
	}
	return topics
}

func sortedHooks(hooks map[string]*Webhook) []*Webhook {
	return slices.SortedFunc(maps.Values(hooks), func(a, b *Webhook) int { return cmp.Compare(a.Name, b.Name) })
}

// changeReaders takes the right to read tenants' events from whom a change
// names no longer, and gives it to whom it names instead; new topics' readers
// come with the topics. Brokers without access lists are asked for nothing.
func changeReaders(ctx context.Context, b *bus.Bus, before, after *Snapshot) error {
	now := map[string]schemas.Topic{}
	for _, t := range after.eventTopics() {
		now[t.Name] = t
	}
	for _, old := range before.eventTopics() {
		t, stays := now[old.Name]
		if stays && t.Reader == old.Reader {
			continue
		}
		err := b.Dismiss(ctx, old)
		if err == nil && stays {
			err = b.Admit(ctx, []schemas.Topic{t})
		}
		if err != nil && !errors.Is(err, bus.ErrNoAuthorizer) {
			return err
		}
	}
	return nil
}
