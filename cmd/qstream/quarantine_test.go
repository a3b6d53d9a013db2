package main

import (
	"strings"
	"testing"
	"time"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// What is held is found by its tenant and queue also when the directory has
// them no more; a name that was never there is told. Digests are of a stretch of
// time with two ends.
func TestQuarantineVerbs(t *testing.T) {
	k := bustest.Start(t)
	v := verbs{t, k.Seeds[0]}
	b := k.Dial(t, bus.Config{})
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	held := func(tenant, to string, since time.Time) string {
		l := &pb.Leg{
			MessageId: mail.NewID(since), Number: 1, Tenant: tenant, Queue: tenant, Generation: 1, Destination: tenant + ".example", ReversePath: "ann@sender.example",
			Recipients: []*pb.Recipient{{Address: to}}, Content: &pb.ContentRef{Topic: schemas.Received, Offsets: []int64{0}, Size: 7},
			ParkedMs: since.UnixMilli(), DueMs: since.Add(24 * time.Hour).UnixMilli(),
			Scan: &pb.Scan{Policy: "p", Finding: "malware", Verdicts: []*pb.Verdict{{Engine: "clam", Outcome: "malware", Name: "Worm"}}},
		}
		bustest.Put(t, b, bus.NewQuarantined(l))
		return l.MessageId
	}
	v.run(0, "kind: tenant\nname: acme\n---\nkind: tenant\nname: other\n", "apply", "-")
	v.wants(v.run(3, "", "quarantine", "list", "--tenant", "acme"), "nothing is held back")
	id := held("acme", "bob@acme.example", noon)
	held("acme", "eve@acme.example", noon.Add(time.Hour))
	v.run(0, "", "apply", "--delete", "tenant/acme")
	v.wants(v.run(0, "", "quarantine", "list", "--tenant", "acme"), id+".1", "Worm", "2 legs, 2 recipients")
	v.wants(v.run(0, "", "quarantine", "list", "--queue", "acme"), "2 legs")
	v.wants(v.run(3, "", "quarantine", "list", "--tenant", "nobody"), "there is no tenant nobody")
	v.wants(v.run(3, "", "quarantine", "list", "--queue", "nobody"), "there is no queue nobody")
	v.wants(v.run(0, "", "quarantine", "delete", "--tenant", "acme", "--dry-run"), "2 legs")
	got := v.run(0, "", "quarantine", "digest", "--from", "pm@acme.example", "--dry-run", "--since", "2026-03-01T00:00:00Z", "--until", "2026-03-01T13:00:00Z")
	if v.wants(got, "bob@acme.example"); strings.Contains(got, "eve@") {
		t.Errorf("it tells of what was held at the end or later:\n%s", got)
	}
	v.wants(v.run(0, "", "quarantine", "digest", "--from", "pm@acme.example", "--dry-run", "--since", "2026-03-01T13:00:00Z", "--until", "2026-03-02T00:00:00Z"), "eve@acme.example")
	v.wants(v.run(0, "", "quarantine", "delete", "--tenant", "acme"), "delete ordered for 2 legs")
}
