package directory

import (
	"fmt"
	"slices"

	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
)

// Question is a recipient to be decided about.
type Question struct {
	Recipient  string // address in string form
	NullSender bool   // the reverse-path is null: bounce routes apply
	Tenant     string // the submitting tenant, for domains nobody owns; may be empty
	Queue      string // that a scan policy sent it to, whatever its route says; empty or gone: as routed
	Route      string // that somebody chose, whatever it matches; empty or gone: as routed
}

// QuestionOf asks again about a recipient of a leg.
func QuestionOf(l *pb.Leg, r *pb.Recipient) Question {
	return Question{
		Recipient: r.Address, NullSender: l.ReversePath == "", Tenant: l.Tenant, Queue: l.GetScan().GetQueue(), Route: l.ByRoute,
	}
}

// Verified reports whether SPF or DMARC passed for the domain of the
// reverse-path: then it is who it says.
func Verified(e *pb.Envelope, checks []*pb.Check) bool {
	domain := mail.NormalDomain(mail.Domain(e.GetReversePath()))
	return domain != "" && slices.ContainsFunc(checks, func(c *pb.Check) bool {
		return (c.Method == "spf" || c.Method == "dmarc") && c.Result == "pass" && mail.NormalDomain(c.Domain) == domain
	})
}

// Decision is the answer.
type Decision struct {
	Tenant      string // owner of the domain, else the submitting tenant, else "default"
	Queue       *Queue // never nil
	Destination string // key of the queue topic: domain, host:port, path, "discard" or "error"
	Route       string // name of the route; empty if none matched
	Via         Via
	Scan        string // name of the scan policy; empty: none, and where it is refused
	Shadow      string // name of the policy that is compared with it; empty: none
	// Refusal is set if the recipient is unroutable or the route refuses it
	// (which may be temporary). Queue is set all the same, Via is an error:.
	Refusal *mail.Status
	Steps   []string // how it was decided, for people; only from Explain
}

// Decide says whose mail a recipient is and where it goes. Whether the client
// may send to it is not asked here: see Owner and ByNetwork.
func (s *Snapshot) Decide(q Question) Decision {
	k := memoKey{mail.Domain(q.Recipient), q.Tenant, q.Queue, q.Route, q.NullSender}
	if d, ok := s.memo.get(k); ok {
		return d
	}
	d := s.decide(q, func(string, ...any) {})
	s.memo.put(k, d)
	return d
}

// Explain is Decide with its steps.
func (s *Snapshot) Explain(q Question) Decision {
	var steps []string
	d := s.decide(q, func(format string, args ...any) {
		steps = append(steps, fmt.Sprintf(format, args...))
	})
	d.Steps = steps
	return d
}

func (s *Snapshot) decide(q Question, step func(string, ...any)) Decision {
	step("directory number %d", s.Number)
	domain, err := s.recipientDomain(q.Recipient, step)
	if err != nil {
		return s.refuse(s.tenantOf("", q.Tenant, step), nil, mail.Status{Code: 550, Enhanced: "5.1.3", Text: err.Error()}, step)
	}
	t := s.tenantOf(domain, q.Tenant, step)
	r := s.routeFor(domain, q, step)
	switch {
	case s.abandoned(domain, q):
		return s.refuse(t, nil, mail.Status{Code: 550, Enhanced: "5.7.1", Text: domain + " is no longer served here"}, step)
	case r == nil:
		return s.refuse(t, nil, mail.Status{Code: 550, Enhanced: "5.1.2", Text: "no route to " + domain}, step)
	case r.Via.Scheme == SchemeError:
		return s.refuse(t, r, r.Via.Status, step)
	case r.Via.MX() && isLocal(domain):
		return s.refuse(t, r, mail.Status{Code: 554, Enhanced: "5.4.6", Text: "mail for " + domain + " would come back to this host"}, step)
	}
	d := Decision{Tenant: t.Name, Queue: s.queueOf(t, r, step), Destination: r.Via.destination(domain), Route: r.Name, Via: r.Via}
	if moved := s.queues[q.Queue]; moved != nil {
		d.Queue = moved
		step("queue %s (generation %d), where a scan policy sent it", moved.Name, moved.Generation)
	}
	if d.Scan = scanOf(t, d.Queue); d.Scan != "" {
		step("scan policy %s", d.Scan)
	}
	if d.Shadow = s.shadowOf(t, d.Queue); d.Shadow != "" {
		step("compared with scan policy %s", d.Shadow)
	}
	step("destination %s via %s", d.Destination, d.Via)
	return d
}

// abandoned reports mail that lost its right to be relayed while it waited:
// its tenant was deleted and nobody owns the domain. A catch-all route must
// not carry it on. Our own reports about it, with a null reverse-path, go.
func (s *Snapshot) abandoned(domain string, q Question) bool {
	if q.NullSender || q.Tenant == "" || s.tenants[q.Tenant] != nil {
		return false
	}
	_, _, owned := s.owners.find(domain)
	return !owned
}

// recipientDomain is the domain that decides. A recipient without one, or at
// localhost, is at this site (RFC 5321 4.5.1: postmaster).
func (s *Snapshot) recipientDomain(recipient string, step func(string, ...any)) (string, error) {
	given := mail.Domain(recipient)
	domain, err := parseDomain(s.here(given))
	if err != nil {
		step("recipient %s: %s", recipient, err)
		return "", err
	}
	step("recipient %s has domain %s", recipient, domain)
	return domain, nil
}

func (s *Snapshot) tenantOf(domain, submitter string, step func(string, ...any)) *Tenant {
	if domain != "" {
		if pattern, t, ok := s.owners.find(domain); ok {
			step("tenant %s owns %s", t.Name, pattern)
			return t
		}
		step("no tenant owns %s", domain)
	}
	if t := s.tenants[submitter]; t != nil {
		step("tenant %s submitted it", t.Name)
		return t
	}
	step("no tenant submitted it: tenant %s", Default)
	return s.tenants[Default]
}

// routeFor is the route that somebody chose, or else the one that matches.
func (s *Snapshot) routeFor(domain string, q Question, step func(string, ...any)) *Route {
	if q.Route != "" {
		if r := s.named[q.Route]; r != nil {
			step("route %s, which somebody chose for this message", r.Name)
			return r
		}
		step("no route %s, which somebody chose for this message", q.Route)
	}
	return s.route(domain, q.NullSender, step)
}

func (s *Snapshot) route(domain string, nullSender bool, step func(string, ...any)) *Route {
	if nullSender {
		if pattern, r, ok := s.nullRoutes.find(domain); ok {
			step("route %s matches a null reverse-path and %s", r.Name, pattern)
			return r
		}
		step("no route for null reverse-paths matches %s", domain)
	}
	pattern, r, ok := s.routes.find(domain)
	if !ok {
		step("no route matches %s", domain)
		return nil
	}
	step("route %s matches %s", r.Name, pattern)
	return r
}

func (s *Snapshot) queueOf(t *Tenant, r *Route, step func(string, ...any)) *Queue {
	name, whose := t.Queue, "tenant "+t.Name
	if r != nil && r.Queue != "" {
		name, whose = r.Queue, "route "+r.Name
	}
	q := s.queues[name]
	step("queue %s (generation %d) of %s", q.Name, q.Generation, whose)
	return q
}

// refuse is a decision that answers why; r is the route that led to it, or nil.
func (s *Snapshot) refuse(t *Tenant, r *Route, why mail.Status, step func(string, ...any)) Decision {
	step("refused: %s", why)
	d := Decision{
		Tenant: t.Name, Queue: s.queueOf(t, r, step), Destination: SchemeError,
		Via: Via{Scheme: SchemeError, Status: why}, Refusal: &why,
	}
	if r != nil {
		d.Route = r.Name
	}
	return d
}
