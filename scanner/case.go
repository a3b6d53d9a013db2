package scanner

import (
	"time"

	"qstream/directory/ruling"
	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
)

// caseOf is what the ruling about a leg depends on besides the verdicts.
func caseOf(l *pb.Leg, now time.Time) ruling.Case {
	c := ruling.Case{Answers: answerable(l)}
	for _, r := range l.Recipients {
		c.Domains = append(c.Domains, mail.Domain(r.Address))
	}
	if since := l.GetScan().GetSinceMs(); since > 0 {
		c.Waited = now.Sub(time.UnixMilli(since))
	}
	return c
}

// answerable reports whether a refusal is told to who sent the mail, and to
// nobody whose address was made up: the client signed in or may relay, or the
// reverse-path's domain was authenticated.
func answerable(l *pb.Leg) bool {
	return l.ReversePath != "" && (l.Session.GetAuthUser() != "" || l.Session.GetRelay() || l.Verified)
}
