// Package view is what a tenant may see of an event: a pure function.
//
// Guarantee: nothing of another tenant's is in what it returns: neither its
// recipients and their outcomes, nor how many there are, nor who handed a
// message in, nor reports to others, nor names of our own hosts. What an event
// tells of the tenant itself stays.
//
// The reverse-path, the Message-ID field and the size belong to the message,
// which the tenant has, and stay.
package view

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"

	"google.golang.org/protobuf/proto"

	"qstream/directory"
	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
)

// Owner says which tenant an address belongs to; empty: none.
type Owner func(address string) (tenant string)

// Of is the tenant's view of an event; nil if there is none. e stays as it is.
//
// Events of a leg are its tenant's. That a message was accepted is told to the
// tenant whose client handed it in. Of recipients only those remain that no
// other tenant owns; an event that names nobody then is not the tenant's.
func Of(e *pb.Event, tenant string, owner Owner) *pb.Event {
	mine := e.Tenant == tenant
	if e.Type == pb.EventType_EVENT_TYPE_ACCEPTED {
		mine = e.GetSession().GetTenant() == tenant
	}
	if !mine || tenant == "" {
		return nil
	}
	outcomes := recipients(e.Outcomes, tenant, owner)
	if len(e.Outcomes) > 0 && len(outcomes) == 0 {
		return nil
	}
	v := &pb.Event{
		Id: ID(tenant, e.Id), Type: e.Type, AtMs: e.AtMs, MessageId: e.MessageId, Tenant: tenant,
		Queue: e.Queue, Destination: e.Destination, Route: e.Route, Attempt: e.Attempt, Outcomes: outcomes,
		Host: e.Host, HostIp: e.HostIp, TlsVersion: e.TlsVersion, DueMs: e.DueMs, Reason: e.Reason,
		ReversePath: e.ReversePath, HeaderMessageId: e.HeaderMessageId, Size: e.Size, Origin: e.Origin,
		TookMs: e.TookMs, Stage: e.Stage, Scan: scan(e.Scan), Session: session(e.Session, tenant),
	}
	if told[e.Type] {
		v.Text = e.Text
	}
	// Who gets a report is the owner of the reverse-path.
	if e.Type == pb.EventType_EVENT_TYPE_DSN && e.ReversePath != "" && owner(e.ReversePath) == tenant {
		v.ChildId = e.ChildId
	}
	// A report comes to whom the message was from, a replay to whom it was to;
	// a copy that somebody forwarded may be of anybody's mail.
	switch e.Origin {
	case pb.Origin_ORIGIN_DSN, pb.Origin_ORIGIN_REROUTE, pb.Origin_ORIGIN_RELEASE, pb.Origin_ORIGIN_REPLAY:
		v.ParentId = e.ParentId
	}
	return v
}

// told are the types whose text is about an attempt or its end; others' may
// name operators, or addresses of others.
var told = map[pb.EventType]bool{
	pb.EventType_EVENT_TYPE_ATTEMPTED: true, pb.EventType_EVENT_TYPE_DELIVERED: true, pb.EventType_EVENT_TYPE_DEFERRED: true,
	pb.EventType_EVENT_TYPE_BOUNCED: true, pb.EventType_EVENT_TYPE_EXPIRED: true, pb.EventType_EVENT_TYPE_DISCARDED: true,
}

// ID is the id of a tenant's view of an event: the same for the same event. It
// tells no leg's number, which would count others' recipients.
func ID(tenant, id string) string {
	sum := sha256.Sum256([]byte(tenant + "\x00" + id))
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:20]))
}

// recipients are those that no other tenant owns. Their numbers are places
// among all recipients of the message, so they are left out.
func recipients(all []*pb.Outcome, tenant string, owner Owner) []*pb.Outcome {
	var mine []*pb.Outcome
	for _, o := range all {
		if of := owner(o.Address); of != "" && of != tenant {
			continue
		}
		one := &pb.Outcome{Address: o.Address}
		if o.Status != nil {
			one.Status = proto.CloneOf(o.Status)
		}
		mine = append(mine, one)
	}
	return mine
}

// session is what a tenant may know of its own client.
func session(s *pb.Session, tenant string) *pb.Session {
	if s == nil || s.Tenant != tenant {
		return nil
	}
	return &pb.Session{
		Protocol: s.Protocol, ClientIp: s.ClientIp, ClientPort: s.ClientPort, ClientName: s.ClientName, Helo: s.Helo,
		TlsVersion: s.TlsVersion, TlsCipher: s.TlsCipher, AuthUser: s.AuthUser, Tenant: s.Tenant,
	}
}

// scan is what was found, and what policy made of it.
func scan(s *pb.Scan) *pb.Scan {
	if s == nil {
		return nil
	}
	v := &pb.Scan{State: s.State, Policy: s.Policy, AtMs: s.AtMs, Action: s.Action, Finding: s.Finding, Queue: s.Queue}
	for _, verdict := range s.Verdicts {
		v.Verdicts = append(v.Verdicts, proto.CloneOf(verdict))
	}
	return v
}

// OwnerIn is the Owner of a directory's domains.
func OwnerIn(s *directory.Snapshot) Owner {
	return func(address string) string {
		t := s.Owner(mail.Domain(address))
		if t == nil {
			return ""
		}
		return t.Name
	}
}
