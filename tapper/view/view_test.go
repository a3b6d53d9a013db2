package view

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
)

// owner: acme, beta and gamma own the domains of their names.
func owner(address string) string {
	name, ok := strings.CutSuffix(mail.Domain(address), ".example")
	if ok && (name == "acme" || name == "beta" || name == "gamma") {
		return name
	}
	return ""
}

const (
	accepted  = pb.EventType_EVENT_TYPE_ACCEPTED
	delivered = pb.EventType_EVENT_TYPE_DELIVERED
)

func to(addresses ...string) (os []*pb.Outcome) {
	for i, a := range addresses {
		os = append(os, &pb.Outcome{Number: uint32(i + 4), Address: a, Status: &pb.Status{Code: 250, Text: "for " + a}})
	}
	return os
}

func mine(addresses ...string) []*pb.Outcome {
	os := to(addresses...)
	for _, o := range os {
		o.Number = 0
	}
	return os
}

func TestOf(t *testing.T) {
	client := &pb.Session{Id: "s", Edge: "mx1.internal", ClientIp: "192.0.2.1", Helo: "h", AuthUser: "ann@acme.example", Tenant: "acme", Relay: true}
	for _, tt := range []struct {
		name     string
		in, want *pb.Event
	}{
		{"its own", &pb.Event{Id: "m.7.3.4", Type: delivered, AtMs: 1, MessageId: "m", Leg: 7, Step: 3, Tenant: "acme", Queue: "q", Destination: "acme.example",
			Route: "r", Attempt: 1, Outcomes: to("a@acme.example"), Host: "h", HostIp: "192.0.2.9", Directory: 8, ReversePath: "x@beta.example", HeaderMessageId: "<h>", Size: 9, Text: "peer"},
			&pb.Event{Type: delivered, AtMs: 1, MessageId: "m", Tenant: "acme", Queue: "q", Destination: "acme.example",
				Route: "r", Attempt: 1, Outcomes: mine("a@acme.example"), Host: "h", HostIp: "192.0.2.9", ReversePath: "x@beta.example", HeaderMessageId: "<h>", Size: 9, Text: "peer"}},
		{"another's", &pb.Event{Type: delivered, Tenant: "beta", Outcomes: to("a@beta.example")}, nil},
		{"nobody's", &pb.Event{Type: delivered, Outcomes: to("a@acme.example")}, nil},
		{"handed in by its client", &pb.Event{Type: accepted, Session: client, Outcomes: to("a@acme.example", "b@beta.example", "o@out.example")},
			&pb.Event{Type: accepted, Tenant: "acme", Outcomes: []*pb.Outcome{mine("a@acme.example")[0], mine("o@out.example")[0]},
				Session: &pb.Session{ClientIp: "192.0.2.1", Helo: "h", AuthUser: "ann@acme.example", Tenant: "acme"}}},
		{"handed in for others only", &pb.Event{Type: accepted, Session: client, Outcomes: to("b@beta.example")}, nil},
		{"handed in by a stranger", &pb.Event{Type: accepted, Session: &pb.Session{ClientIp: "192.0.2.1"}, Outcomes: to("a@acme.example")}, nil},
		{"handed in by another's client", &pb.Event{Type: accepted, Session: &pb.Session{Tenant: "beta"}, Outcomes: to("a@acme.example")}, nil},
		{"a report to a stranger", &pb.Event{Type: pb.EventType_EVENT_TYPE_DSN, Tenant: "acme", ReversePath: "o@out.example", ChildId: "c", Outcomes: to("a@acme.example")},
			&pb.Event{Type: pb.EventType_EVENT_TYPE_DSN, Tenant: "acme", ReversePath: "o@out.example", Outcomes: mine("a@acme.example")}},
		{"a report to itself", &pb.Event{Type: pb.EventType_EVENT_TYPE_DSN, Tenant: "acme", ReversePath: "ann@acme.example", ChildId: "c", Outcomes: to("o@out.example")},
			&pb.Event{Type: pb.EventType_EVENT_TYPE_DSN, Tenant: "acme", ReversePath: "ann@acme.example", ChildId: "c", Outcomes: mine("o@out.example")}},
		{"a report that wasn't made to another", &pb.Event{Type: pb.EventType_EVENT_TYPE_DISCARDED, Tenant: "acme", Outcomes: to("b@beta.example")}, nil},
		{"forwarded by an operator", &pb.Event{Type: pb.EventType_EVENT_TYPE_FORWARDED, Tenant: "acme", ChildId: "c", Text: "by root@host to b@beta.example", Outcomes: to("a@acme.example")},
			&pb.Event{Type: pb.EventType_EVENT_TYPE_FORWARDED, Tenant: "acme", Outcomes: mine("a@acme.example")}},
		{"a copy of somebody's", &pb.Event{Type: delivered, Tenant: "acme", Origin: pb.Origin_ORIGIN_FORWARD, ParentId: "p"},
			&pb.Event{Type: delivered, Tenant: "acme", Origin: pb.Origin_ORIGIN_FORWARD}},
		{"a report that came", &pb.Event{Type: delivered, Tenant: "acme", Origin: pb.Origin_ORIGIN_DSN, ParentId: "p"},
			&pb.Event{Type: delivered, Tenant: "acme", Origin: pb.Origin_ORIGIN_DSN, ParentId: "p"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := proto.CloneOf(tt.in)
			if tt.want != nil {
				tt.want.Id = ID("acme", tt.in.Id)
			}
			if diff := cmp.Diff(tt.want, Of(tt.in, "acme", owner), protocmp.Transform()); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(before, tt.in, protocmp.Transform()); diff != "" {
				t.Errorf("the event was changed:\n%s", diff)
			}
		})
	}
	if Of(&pb.Event{Type: accepted, Session: &pb.Session{}}, "", owner) != nil {
		t.Error("nobody sees what is nobody's")
	}
}

// TestForeign: of whatever message to three tenants and outside, no octet of
// what a tenant sees depends on the others: neither their addresses, replies
// and sessions, nor how many they are.
func TestForeign(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tenant := rapid.SampledFrom([]string{"acme", "beta", "gamma"}).Draw(t, "tenant")
		e := anyEvent(t, tenant)
		secrets := foreign(e, tenant)
		got := Of(e, tenant, owner)
		if got == nil {
			return
		}
		raw, err := proto.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range secrets {
			if bytes.Contains(raw, []byte(s)) {
				t.Fatalf("%s sees %q in\n%v", tenant, s, got)
			}
		}
		if got.Leg != 0 || got.Step != 0 || got.Directory != 0 {
			t.Fatalf("it counts others: %v", got)
		}
		// The same message with others than these.
		other := proto.CloneOf(e)
		other.Outcomes = nil
		for i, o := range e.Outcomes {
			if of := owner(o.Address); of == "" || of == tenant {
				kept := proto.CloneOf(o)
				kept.Number = uint32(3 * i)
				other.Outcomes = append(other.Outcomes, kept)
			}
		}
		if diff := cmp.Diff(got, Of(other, tenant, owner), protocmp.Transform()); diff != "" {
			t.Fatalf("it depends on others:\n%s", diff)
		}
	})
}

// anyEvent is an event with recipients of all tenants where its type may name
// them, and with secrets of the others' wherever they could be.
func anyEvent(t *rapid.T, tenant string) *pb.Event {
	types := make([]pb.EventType, 0, len(pb.EventType_name))
	for n := range int32(len(pb.EventType_name)) {
		types = append(types, pb.EventType(n))
	}
	e := &pb.Event{
		Type: rapid.SampledFrom(types).Draw(t, "type"), MessageId: "01JD", Leg: rapid.Uint32Range(1, 9).Draw(t, "leg"), Step: rapid.Uint64Range(1, 9).Draw(t, "step"),
		Tenant: rapid.SampledFrom([]string{"", "acme", "beta", "gamma"}).Draw(t, "of"), Directory: 7,
		ReversePath: rapid.SampledFrom([]string{"", "o@out.example", "own@" + tenant + ".example"}).Draw(t, "reverse-path"),
		ChildId:     "secret-child", ParentId: "parent", Origin: pb.Origin(rapid.Int32Range(0, 6).Draw(t, "origin")),
		Session: &pb.Session{Id: "secret-session", Edge: "secret-edge", ClientIp: "192.0.2.77", Tenant: rapid.SampledFrom([]string{"", "acme", "beta", "gamma"}).Draw(t, "client")},
	}
	if !told[e.Type] {
		e.Text = "secret-text"
	}
	for i := range rapid.IntRange(0, 8).Draw(t, "recipients") {
		of := rapid.SampledFrom([]string{"acme", "beta", "gamma", "out"}).Draw(t, "domain")
		address := fmt.Sprintf("r%d-%d@%s.example", i, rapid.IntRange(100, 999).Draw(t, "local"), of)
		e.Outcomes = append(e.Outcomes, &pb.Outcome{Number: uint32(i), Address: address, Status: &pb.Status{Code: 250, Text: "said to " + address}})
	}
	e.Id = fmt.Sprintf("01JD.%d.%d.%d", e.Leg, e.Step, e.Type)
	return e
}

// foreign is what a tenant may not see of an event.
func foreign(e *pb.Event, tenant string) []string {
	secrets := []string{"secret-edge", "secret-session", "secret-text", e.Id}
	for _, o := range e.Outcomes {
		if of := owner(o.Address); of != "" && of != tenant {
			secrets = append(secrets, o.Address)
		}
	}
	if e.Session.Tenant != tenant {
		secrets = append(secrets, e.Session.ClientIp)
	}
	if owner(e.ReversePath) != tenant {
		secrets = append(secrets, e.ChildId)
	}
	if e.Origin == pb.Origin_ORIGIN_FORWARD || e.Origin == pb.Origin_ORIGIN_DIGEST {
		secrets = append(secrets, "parent")
	}
	return secrets
}
