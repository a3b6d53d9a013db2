package scanner

import (
	"time"

	"qstream/directory/ruling"
	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
)

// caseOf is what the ruling about a leg depends on besides the verdicts.
func caseOf(l *pb.Leg, now time.Time) ruling.Case {
	c := ruling.Case{Answers: ruling.Answerable(l.ReversePath, l.Session, l.Verified)}
	for _, r := range l.Recipients {
		c.Domains = append(c.Domains, mail.Domain(r.Address))
	}
	if since := l.GetScan().GetSinceMs(); since > 0 {
		c.Waited = now.Sub(time.UnixMilli(since))
	}
	return c
}
