package quota

import (
	"qstream/directory"
	"qstream/mail"
)

// Limit is a limit that mail is above.
type Limit string

// Limits of an hour, and of what waits.
const (
	None            Limit = ""
	Messages        Limit = "messages"
	Recipients      Limit = "recipients"
	Bytes           Limit = "bytes"
	WaitingMessages Limit = "waiting_messages"
	WaitingBytes    Limit = "waiting_bytes"
	Oldest          Limit = "oldest"
)

// overHour is the limit that an hour would pass with more mail in it.
func overHour(l directory.HourLimits, used, more Use) Limit {
	over := func(limit, used, more int64) bool { return limit > 0 && (used >= limit || used+more > limit) }
	switch {
	case over(l.Messages, used.Messages, more.Messages):
		return Messages
	case over(l.Recipients, used.Recipients, more.Recipients):
		return Recipients
	case over(l.Bytes, used.Bytes, more.Bytes):
		return Bytes
	}
	return None
}

// overWait is the limit that waiting mail has reached, or would pass with a
// message of a size.
func overWait(l directory.WaitLimits, w Waits, size int64) Limit {
	switch {
	case l.Messages > 0 && w.Messages >= l.Messages:
		return WaitingMessages
	case l.Bytes > 0 && (w.Bytes >= l.Bytes || w.Bytes+size > l.Bytes):
		return WaitingBytes
	case l.Oldest > 0 && w.Oldest > l.Oldest:
		return Oldest
	}
	return None
}

// Hour is the limit that mail of a scope would pass in this hour.
func (b *Book) Hour(s Scope, l directory.HourLimits, more Use) Limit {
	if l == (directory.HourLimits{}) {
		return None
	}
	return overHour(l, b.Used(s), more)
}

// Wait is the limit that waiting mail of a tenant, or user, has reached.
func (b *Book) Wait(tenant, user string, l directory.WaitLimits, size int64) Limit {
	if l == (directory.WaitLimits{}) {
		return None
	}
	w, ok := b.Waiting(tenant, user)
	if !ok {
		return None
	}
	return overWait(l, w, size)
}

// Met counts a limit that mail was above, and what was done.
func (b *Book) Met(l Limit, action string) { b.metrics.limits.WithLabelValues(string(l), action).Inc() }

// Waits reports a limit of waiting mail.
func (l Limit) waits() bool { return l == WaitingMessages || l == WaitingBytes || l == Oldest }

// words are what a client hears.
var words = map[Limit]string{
	Messages:        "too many messages in an hour",
	Recipients:      "too many recipients in an hour",
	Bytes:           "too much mail in an hour",
	WaitingMessages: "too many messages wait",
	WaitingBytes:    "too much mail waits",
	Oldest:          "mail waits too long",
}

// Status is the reply to mail above a limit; whose is named to the client: the
// user, or the recipient's domain. Mail that waits is congestion, and passes
// (RFC 3463 X.4.5, which is transient only); all else is policy (X.7.1).
func (l Limit) Status(action, whose string) mail.Status {
	st := mail.Status{Code: 452, Enhanced: "4.7.1", Text: words[l]}
	if whose != "" {
		st.Text += " for " + whose
	}
	switch {
	case action == directory.QuotaReject:
		st.Code, st.Enhanced = 550, "5.7.1"
	case l.waits():
		st.Enhanced = "4.4.5"
	}
	if st.Code == 452 {
		st.Text += ", try again later"
	}
	return st
}
