package intake

import (
	"strings"
	"time"

	"qstream/directory"
	"qstream/mail"
)

// submitter is the user of the session as the directory has it now; nil
// without one. A user who is gone, or may not sign in any more, has to do so
// again.
func (s *Session) submitter(snap *directory.Snapshot) (*directory.Credential, error) {
	if s.client.User == "" {
		if s.client.Submission {
			return nil, s.refused("auth", refuse(530, "5.7.0", "authentication required"))
		}
		return nil, nil
	}
	u := snap.Submitter(s.client.User, s.client.Vouched)
	if u == nil || !u.Admits(s.client.Addr.Addr()) {
		return nil, s.refused("auth", refuse(530, "5.7.0", "authentication required: sign in again"))
	}
	return u, nil
}

// limits are what a user may send at once: its own limits, below the edge's.
func (s *Session) limits(u *directory.Credential) (recipients int, size int64) {
	recipients, size = s.in.cfg.MaxRecipients, s.limit()
	if u != nil && u.MaxRecipients > 0 {
		recipients = min(recipients, u.MaxRecipients)
	}
	if u != nil && u.MaxSize > 0 {
		size = min(size, u.MaxSize)
	}
	return recipients, size
}

// missing are the fields that a submitted message lacks (RFC 6409 8.2, 8.3),
// as they go before it, and its Message-ID.
func (s *Session) missing(h *mail.HeaderScan, id string, at time.Time) (fields, messageID string) {
	messageID = h.MessageID()
	if !s.client.Submission && !s.client.Complete {
		return "", messageID
	}
	var b strings.Builder
	if !h.HasMessageID {
		messageID = "<" + id + "@" + s.by() + ">"
		b.WriteString("Message-ID: " + messageID + "\r\n")
	}
	if !h.HasDate {
		b.WriteString("Date: " + at.UTC().Format("Mon, 2 Jan 2006 15:04:05 -0700") + "\r\n")
	}
	return b.String(), messageID
}
