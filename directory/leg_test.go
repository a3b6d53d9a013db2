package directory

import (
	"testing"

	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
)

func aLeg(recipients ...string) *pb.Leg {
	l := &pb.Leg{Queue: "acme", Generation: 2, Destination: "acme.example", Tenant: "was"}
	for _, r := range recipients {
		l.Recipients = append(l.Recipients, &pb.Recipient{Address: r})
	}
	return l
}

func TestResolve(t *testing.T) {
	acme := Decision{Tenant: "acme", Queue: &Queue{Name: "acme", Generation: 2}, Destination: "acme.example", Route: "r", Via: Via{Host: "mx.acme.example"}}
	with := func(change func(*Decision)) Decision {
		d := acme
		change(&d)
		return d
	}
	for name, tt := range map[string]struct {
		other Decision
		same  bool
	}{
		"alike":                    {acme, true},
		"another route":            {with(func(d *Decision) { d.Route = "s" }), true},
		"another scan policy":      {with(func(d *Decision) { d.Scan = "p" }), true},
		"another queue":            {with(func(d *Decision) { d.Queue = &Queue{Name: "beta", Generation: 2} }), false},
		"another generation":       {with(func(d *Decision) { d.Queue = &Queue{Name: "acme", Generation: 3} }), false},
		"another destination":      {with(func(d *Decision) { d.Destination = "beta.example" }), false},
		"another tenant":           {with(func(d *Decision) { d.Tenant = "beta" }), false},
		"another way out":          {with(func(d *Decision) { d.Via.Host = "mx.beta.example" }), false},
		"refused for now":          {with(func(d *Decision) { d.Refusal = &mail.Status{Code: 451} }), true},
		"refused by no one's code": {with(func(d *Decision) { d.Refusal = &mail.Status{Code: 700} }), true},
		"refused for good":         {with(func(d *Decision) { d.Refusal = &mail.Status{Code: 550} }), false},
	} {
		decide := func(q Question) Decision {
			if q.Tenant != "was" {
				t.Errorf("asked about tenant %q", q.Tenant)
			}
			if q.Recipient == "b@acme.example" {
				return tt.other
			}
			return acme
		}
		for _, order := range [][]string{{"a@acme.example", "b@acme.example"}, {"b@acme.example", "a@acme.example"}} {
			first, same := Resolve(aLeg(order...), decide)
			if want := decide(Question{Recipient: order[0], Tenant: "was"}); same != tt.same || first.Route != want.Route || first.Tenant != want.Tenant || first.Scan != want.Scan || first.Queue != want.Queue {
				t.Errorf("%s, %v: %+v, %t", name, order, first, same)
			}
		}
	}
	if first, same := Resolve(aLeg(), nil); same || first.Queue != nil {
		t.Errorf("without recipients: %+v, %t", first, same)
	}
}

func TestLiveQueue(t *testing.T) {
	for name, tt := range map[string]struct {
		queue *Queue
		live  bool
	}{"live": {&Queue{Generation: 2}, true}, "purged": {&Queue{Generation: 3}, false}, "gone": {nil, false}} {
		got := LiveQueue(aLeg(), func(name string) *Queue {
			if name != "acme" {
				t.Errorf("asked for %s", name)
			}
			return tt.queue
		})
		if (got != nil) != tt.live || got != nil && got != tt.queue {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestOrderedScan(t *testing.T) {
	plain, redirected := aLeg("a@acme.example", "b@acme.example"), aLeg("a@acme.example", "b@acme.example")
	redirected.Scan = &pb.Scan{Queue: "junk"}
	decide := func(q Question) Decision {
		if q.Queue != "" || q.Recipient != "a@acme.example" {
			t.Errorf("asked %+v", q)
		}
		return Decision{Scan: "routed"}
	}
	for name, tt := range map[string]struct {
		leg    *pb.Leg
		policy string
		anew   bool
	}{"plain": {plain, "first", false}, "redirected": {redirected, "routed", true}} {
		if policy, anew := OrderedScan(tt.leg, Decision{Scan: "first"}, decide); policy != tt.policy || anew != tt.anew {
			t.Errorf("%s: %q, %t", name, policy, anew)
		}
	}
}
