package schemas

import (
	"bytes"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pb "qstream/schemas/qstream/v1"
)

// Golden records are written once and never again: a topic may hold such
// records for as long as it is kept.
var add = flag.Bool("add", false, "write golden records that are missing")

func TestGoldenRecords(t *testing.T) {
	if *add {
		writeMissing(t)
	}
	files, err := filepath.Glob("testdata/*.pb")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d golden records, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".pb")
		t.Run(name, func(t *testing.T) { checkGolden(t, file, name) })
	}
	for name := range samples() {
		if _, err := os.Stat("testdata/" + name + ".pb"); err != nil {
			t.Errorf("no golden record: go test ./schemas -add (%v)", err)
		}
	}
}

// kinds maps the first word of a golden record's name to topic and type.
var kinds = map[string][2]string{
	"received":   {Received, ""},
	"reinject":   {Reinject, ""},
	"leg":        {"qstream.queue.acme.v1", ""},
	"waiting":    {"qstream.delay.1m.v1", ""},
	"parked":     {Parked, ""},
	"scan":       {"qstream.scan.acme.v1", ""},
	"quarantine": {Quarantine, ""},
	"marker":     {"qstream.delay.1m.v1", TypeMarker},
	"chunk":      {"qstream.content.default.v1", ""},
	"journaled":  {Journal, ""},
	"event":      {Events, ""},
	"apply":      {Directory, ""},
	"command":    {Control, ""},
	"deadletter": {Deadletter, ""},
	"greylisted": {Greylist, ""},
	"act":        {Audit, ""},
	"checkpoint": {Checkpoint, ""},
	"submission": {Idempotency, ""},
	"usage":      {Usage, ""},
	"rescan":     {Rescan, ""},
	"tapped":     {"qstream.tap.acme.v1", ""},
	"archive":    {Archives, ""},
	"webhook":    {Webhook, ""},
	"sealed":     {VaultLane(3), ""},
}

func checkGolden(t *testing.T, file, name string) {
	value, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(strings.TrimSuffix(file, ".pb") + ".json")
	if err != nil {
		t.Fatal(err)
	}
	word, _, _ := strings.Cut(name, "-")
	kind, ok := kinds[word]
	if !ok {
		t.Fatalf("kind %q is unknown", word)
	}
	m, err := Decode(kind[0], kind[1], value)
	if err != nil {
		t.Fatal(err)
	}
	got, err := JSON(m)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, bytes.TrimSpace(want)) {
		t.Errorf("decodes to\n%s\nwant\n%s", got, want)
	}
	// A later version's field passes through this one.
	later := protowire.AppendTag(bytes.Clone(value), 19999, protowire.BytesType)
	later = protowire.AppendString(later, "from the future")
	m, err = Decode(kind[0], kind[1], later)
	if err != nil {
		t.Fatal(err)
	}
	again, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(again, []byte("from the future")) {
		t.Error("an unknown field is lost")
	}
}

func writeMissing(t *testing.T) {
	for name, m := range samples() {
		file := "testdata/" + name
		if _, err := os.Stat(file + ".pb"); err == nil {
			continue
		}
		value, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		line, err := JSON(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file+".pb", value, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file+".json", append(line, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// Every topic of the table decodes, and knows its own row again.
func TestEveryTopicIsKnown(t *testing.T) {
	topics := append(FixedTopics(), QueueTopics("acme", 2, "default", 0)...)
	topics = append(topics, ScanTopics("acme", 2, "default", 0)...)
	topics = append(topics, ContentTopics("archive")...)
	seen := map[string]bool{}
	for _, topic := range topics {
		if seen[topic.Name] {
			t.Errorf("%s is in the table twice", topic.Name)
		}
		seen[topic.Name] = true
		m, err := Decode(topic.Name, "", nil)
		if err != nil {
			t.Error(err)
			continue
		}
		if name := string(m.ProtoReflect().Descriptor().FullName()); name != topic.Value {
			t.Errorf("%s holds %s, decoded as %s", topic.Name, topic.Value, name)
		}
		row, ok := ByName(topic.Name)
		if !ok || row.Name != topic.Name || row.Retention != topic.Retention || row.MaxMessage != topic.MaxMessage {
			t.Errorf("row of %s: %+v", topic.Name, row)
		}
		if topic.MaxMessage != MaxMessage(topic.Name) {
			t.Errorf("%s: sizes %d and %d", topic.Name, topic.MaxMessage, MaxMessage(topic.Name))
		}
	}
	if _, err := Decode("other", "", nil); err == nil {
		t.Error("a record of an unknown topic decodes")
	}
}

func FuzzDecode(f *testing.F) {
	for name, m := range samples() {
		word, _, _ := strings.Cut(name, "-")
		value, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(kinds[word][0], kinds[word][1], value)
	}
	f.Fuzz(func(_ *testing.T, topic, typ string, value []byte) {
		if m, err := Decode(topic, typ, value); err == nil {
			_, _ = JSON(m)
		}
	})
}

var session = &pb.Session{
	Id: "s1", Protocol: pb.Protocol_PROTOCOL_SMTP, Edge: "mx.example", ClientIp: "192.0.2.7", ClientPort: 49152,
	ClientName: "out.acme.example", Helo: "out.acme.example", TlsVersion: "TLS 1.3", TlsCipher: "TLS_AES_128_GCM_SHA256",
	Relay: true, Tenant: "acme",
}

var recipients = []*pb.Recipient{
	{Number: 0, Address: "a@one.example", Notify: []pb.Notify{pb.Notify_NOTIFY_SUCCESS, pb.Notify_NOTIFY_FAILURE}, Orcpt: "rfc822;a@one.example"},
	{Number: 3, Address: "b@one.example"},
}

func ref() *pb.ContentRef {
	return &pb.ContentRef{
		MessageId: "01JD0000000000000000000001", Topic: "qstream.content.default.v1", Partition: 2,
		Offsets: []int64{900, 1, 3}, Size: 1_200_000, Sha256: []byte("0123456789abcdef0123456789abcdef"), StoredMs: 1_763_900_000_123,
	}
}

func leg() *pb.Leg {
	return &pb.Leg{
		MessageId: "01JD0000000000000000000001", Number: 1, Step: 3, Attempt: 2, Tenant: "acme", Queue: "acme", Generation: 1,
		Destination: "one.example", Route: "acme-out", ReversePath: "sender@acme.example", Recipients: recipients,
		EnvId: "QQ314159", Ret: pb.Ret_RET_HDRS, Body: pb.Body_BODY_8BITMIME, Smtputf8: true, Content: ref(),
		Prepend: []byte("Received: by mx.example\r\n"), BornMs: 1_763_900_000_456, StoppedMs: 60_000,
		Last: &pb.Status{Code: 451, Enhanced: "4.7.1", Text: "greylisted"}, LastHost: "mx1.one.example", Directory: 17,
		HeaderMessageId: "<1@acme.example>", Session: session, Spills: 1,
	}
}

func byRoute() *pb.Leg {
	l := leg()
	l.Route, l.ByRoute, l.Destination = "spare", "spare", "spare.example:25"
	return l
}

func waiting() *pb.Leg {
	l := leg()
	l.DueMs, l.Reason = 1_763_900_060_000, pb.Reason_REASON_DEFERRED
	return l
}

func parked() *pb.Leg {
	l := leg()
	l.Reason, l.ParkedMs, l.Owed = pb.Reason_REASON_SUSPENDED, 1_763_900_070_000, true
	return l
}

func verdicts() []*pb.Verdict {
	return []*pb.Verdict{
		{Engine: "clamav", Outcome: "malware", Name: "Eicar-Test-Signature", Signatures: "27400", TookMs: 12, Kept: true},
		{Engine: "rspamd", Outcome: "spam", Score: 17.5, Threshold: 15, Advice: "refuse", TookMs: 80,
			Symbols: []*pb.Symbol{{Name: "BAYES_SPAM", Score: 5.1}, {Name: "R_SPF_FAIL", Score: 1}}},
		{Engine: "measure", Outcome: "unscannable", Reason: "too deep", Detail: "17 archives in each other"},
	}
}

// wanted is a leg on its scan topic that has waited for an engine.
func wanted() *pb.Leg {
	l := leg()
	l.Verified = true
	l.Scan = &pb.Scan{State: pb.ScanState_SCAN_STATE_WANTED, Policy: "standard", Tries: 1, Waits: 4, SinceMs: 1_763_900_010_000}
	return l
}

// tagged is a leg that was scanned and redirected.
// lookedAt are records of mail that the edge has verified or scanned.
func lookedAt(envelope *pb.Envelope) map[string]proto.Message {
	return map[string]proto.Message{
		"received-checked": &pb.Received{
			Id: "01JD0000000000000000000003", Session: session, Envelope: envelope, Directory: 17,
			Content: &pb.Content{Where: &pb.Content_Ref{Ref: ref()}, Size: 1_200_000, Sha256: ref().Sha256},
			Checks: []*pb.Check{
				{Method: "spf", Result: "softfail", Domain: "acme.example", Reason: "no mechanism matched"},
				{Method: "dkim", Result: "fail", Domain: "acme.example", Selector: "s1", Algorithm: "rsa-sha256", Reason: "body hash did not verify"},
				{Method: "dmarc", Result: "fail", Domain: "acme.example", Policy: "quarantine"},
			},
		},
		"received-scanned": &pb.Received{
			Id: "01JD0000000000000000000004", Session: session, Envelope: envelope, Directory: 17,
			Content: &pb.Content{Where: &pb.Content_Ref{Ref: ref()}, Size: 1_200_000, Sha256: ref().Sha256},
			Scan: &pb.Scan{
				State: pb.ScanState_SCAN_STATE_DONE, Policy: "strangers", OfRule: true, Directory: 17, AtMs: 1_763_900_000_100, Action: "tag", Finding: "spam",
				Verdicts: verdicts(), Changes: []*pb.HeaderChange{{Kind: pb.ChangeKind_CHANGE_KIND_ADD, Name: "X-Spam", Value: []byte("yes")}},
			},
		},
		"received-scanned-by": &pb.Received{
			Id: "01JD0000000000000000000006", Session: session, Envelope: envelope, Directory: 17,
			Content: &pb.Content{Where: &pb.Content_Ref{Ref: ref()}, Size: 1_200_000, Sha256: ref().Sha256},
			Scan:    &pb.Scan{State: pb.ScanState_SCAN_STATE_DONE, Policy: "strangers", OfRule: true, Directory: 17, Action: "pass", Verdicts: verdicts(), Engines: []byte{1, 2, 3, 4, 5, 6, 7, 8}},
		},
		"received-left": &pb.Received{
			Id: "01JD0000000000000000000005", Session: session, Envelope: envelope, Directory: 17,
			Content: &pb.Content{Where: &pb.Content_Ref{Ref: ref()}, Size: 1_200_000, Sha256: ref().Sha256},
			Scan:    &pb.Scan{State: pb.ScanState_SCAN_STATE_WANTED, Policy: "strangers", Owed: "strangers", Verdicts: verdicts()},
		},
		"leg-scanned-twice": twice(),
	}
}

// twice is a leg that its connection's rule had scanned, and its own policy.
func twice() *pb.Leg {
	l := tagged()
	l.Scan.Before = &pb.Scan{State: pb.ScanState_SCAN_STATE_DONE, Policy: "strangers", OfRule: true, Directory: 17, Action: "pass"}
	return l
}

func tagged() *pb.Leg {
	l := leg()
	l.Queue = "spam"
	l.Scan = &pb.Scan{
		State: pb.ScanState_SCAN_STATE_DONE, Policy: "standard", Directory: 18, AtMs: 1_763_900_020_000, Verdicts: verdicts()[1:2],
		Action: "redirect", Finding: "spam", Queue: "spam",
		Changes: []*pb.HeaderChange{
			{Kind: pb.ChangeKind_CHANGE_KIND_ADD, Name: "X-Spam-Flag", Value: []byte("YES")},
			{Kind: pb.ChangeKind_CHANGE_KIND_DELETE, Name: "X-Spam-Status"},
			{Kind: pb.ChangeKind_CHANGE_KIND_REPLACE, Index: 1, Name: "Subject", Value: []byte("[spam]\r\n\tbuy")},
			{Kind: pb.ChangeKind_CHANGE_KIND_PREFIX, Name: "Subject", Value: []byte("[spam] ")},
		},
	}
	l.Scan.Verdicts[0].Symbols = nil
	return l
}

func quarantined() *pb.Leg {
	l := leg()
	l.Reason, l.ParkedMs, l.DueMs = pb.Reason_REASON_QUARANTINE, 1_763_900_020_000, 1_766_492_020_000
	l.Scan = &pb.Scan{
		State: pb.ScanState_SCAN_STATE_DONE, Policy: "standard", Directory: 18, AtMs: 1_763_900_020_000,
		Verdicts: verdicts()[:1], Action: "quarantine", Finding: "malware",
	}
	return l
}

// samples are one record of each kind, with most fields set.
func mailSamples() map[string]proto.Message {
	envelope := &pb.Envelope{
		ReversePath: "sender@acme.example", Recipients: recipients, EnvId: "QQ314159",
		Ret: pb.Ret_RET_FULL, Body: pb.Body_BODY_8BITMIME, Smtputf8: true,
	}
	all := map[string]proto.Message{
		"received-inline": &pb.Received{
			Id: "01JD0000000000000000000001", Session: session, Envelope: envelope,
			Content: &pb.Content{Where: &pb.Content_Inline{Inline: []byte("Subject: x\r\n\r\nx\r\n")}, Size: 17, Sha256: []byte("0123456789abcdef0123456789abcdef")},
			Prepend: []byte("Received: by mx.example\r\n"), Directory: 17, AcceptedMs: 1_763_900_000_400, HeaderMessageId: "<1@acme.example>",
		},
		"received-ref": &pb.Received{
			Id: "01JD0000000000000000000001", Session: session, Envelope: envelope,
			Content: &pb.Content{Where: &pb.Content_Ref{Ref: ref()}, Size: 1_200_000, Sha256: ref().Sha256}, Directory: 17,
		},
		"greylisted": &pb.Greylisted{
			Network: "192.0.2.0/24", ReversePath: "sender@acme.example", Recipient: "a@one.example",
			FirstMs: 1_763_900_000_000, PassedMs: 1_763_900_300_000, Passes: 2,
		},
		"act": &pb.Act{
			AtMs: 1_795_885_071_768, Actor: "op@mx.example", Action: "replay", Job: "01M8HHEZCR67705K80B59F9RYK",
			Reason: "their host refused all", Detail: "{}", Ended: true, Error: "no broker",
		},
		"submission": &pb.Submission{
			State: pb.SubmissionState_SUBMISSION_STATE_DONE, Key: []byte("0123456789abcdef"), Base: 18, Fingerprint: ref().Sha256,
			MessageIds: []string{"01JD0000000000000000000001"}, ClaimedMs: []int64{1_763_900_000_000}, LeaseMs: 60_000, Edge: "mx.example",
			Status: 202, Answer: []byte(`{"id":"01JD0000000000000000000001"}`),
		},
		"usage-hour": usage(), "usage-waiting": usageWaiting(),
		"sealed": &pb.Sealed{Key: 2, Nonce: []byte("0123456789abcdef01234567"), Box: []byte{0, 255, 7, 128}},
		"reinject-dsn": &pb.Reinject{
			Id: "01JD0000000000000000000002", Origin: pb.Origin_ORIGIN_DSN, ParentId: "01JD0000000000000000000001", ParentLeg: 1,
			Envelope: &pb.Envelope{Recipients: []*pb.Recipient{{Address: "sender@acme.example"}}},
			Content:  &pb.Content{Where: &pb.Content_Inline{Inline: []byte("report")}, Size: 6}, Tenant: "acme", Directory: 18,
		},
		"reinject-reroute": &pb.Reinject{
			Id: "01JD0000000000000000000001", Origin: pb.Origin_ORIGIN_REROUTE, ParentLeg: 1, Envelope: envelope,
			Content: &pb.Content{Where: &pb.Content_Ref{Ref: ref()}}, Tenant: "acme", BornMs: 1_763_900_000_456, StoppedMs: 1,
			NextLeg: 2000, Reroutes: 1, Attempt: 2, Session: session, Last: &pb.Status{Code: 450},
		},
		"reinject-by-route": &pb.Reinject{
			Id: "01JD0000000000000000000005", Origin: pb.Origin_ORIGIN_REPLAY, ParentId: "01JD0000000000000000000001", Envelope: envelope,
			Content: &pb.Content{Where: &pb.Content_Ref{Ref: ref()}}, Tenant: "acme", Directory: 18, Session: session, ByRoute: "spare",
		},
		"reinject-forward": &pb.Reinject{
			Id: "01JD0000000000000000000004", Origin: pb.Origin_ORIGIN_FORWARD, ParentId: "01JD0000000000000000000001", ParentLeg: 1,
			Envelope: &pb.Envelope{Recipients: []*pb.Recipient{{Address: "abuse@acme.example"}}},
			Content:  &pb.Content{Where: &pb.Content_Ref{Ref: ref()}, Size: 1_200_000, Sha256: ref().Sha256}, Tenant: "acme", Directory: 18,
			Prepend: []byte("X-Qstream-Forwarded: standard\r\n"), Scan: &pb.Scan{State: pb.ScanState_SCAN_STATE_EXEMPT}, Verified: true,
		},
		"apply-scanned": &pb.Apply{
			Number: 19, Base: 18, Documents: []*pb.Document{{Kind: "scan", Name: "standard", Yaml: "name: standard\n"}},
			Scanned: map[string]uint32{"acme": 2}, Retired: []*pb.Retired{{Name: "acme", Generation: 1, Pool: "default", Partitions: 3, RetiredMs: 1_763_900_000_000, Scanned: true}},
		},
		"event-scanned": &pb.Event{
			Id: "01JD0000000000000000000001.1.3.17", Type: pb.EventType_EVENT_TYPE_SCANNED, AtMs: 1_763_900_001_000,
			MessageId: "01JD0000000000000000000001", Leg: 1, Step: 3, Tenant: "acme", Queue: "acme", Destination: "one.example",
			Directory: 18, TookMs: 92, Stage: "scanner",
			Scan: &pb.Scan{State: pb.ScanState_SCAN_STATE_DONE, Policy: "standard", Directory: 18, Verdicts: verdicts(), Action: "reject", Finding: "malware"},
		},
		"leg":          leg(),
		"leg-by-route": byRoute(),
		"leg-tagged":   tagged(),
		"scan":         wanted(),
		"waiting":      waiting(),
		"parked":       parked(),
		"quarantine":   quarantined(),
		"parked-held":  parkedHeld(),
		"marker":       &pb.Marker{Offsets: []int64{5, 9, 12}},
		"chunk":        &pb.Chunk{MessageId: "01JD0000000000000000000001", Number: 1, Data: []byte{0, 1, 255}, Compressed: true},
		"journaled":    &pb.Journaled{Topic: "qstream.queue.acme.v1", Partition: 1, Offset: 99, Result: []byte{8, 1}},
		"event": &pb.Event{
			Id: "01JD0000000000000000000001.1.3.4", Type: pb.EventType_EVENT_TYPE_DELIVERED, AtMs: 1_763_900_001_000,
			MessageId: "01JD0000000000000000000001", Leg: 1, Step: 3, Tenant: "acme", Queue: "acme", Destination: "one.example",
			Route: "acme-out", Attempt: 2, Outcomes: []*pb.Outcome{{Number: 0, Address: "a@one.example", Status: &pb.Status{Code: 250, Enhanced: "2.1.5", Text: "ok"}}},
			Host: "mx1.one.example", HostIp: "192.0.2.25", TlsVersion: "TLS 1.3", Directory: 17, TookMs: 45, Stage: "deliver",
		},
		"apply": &pb.Apply{
			Number: 18, Base: 17, Full: true, Documents: []*pb.Document{{Kind: "queue", Name: "acme", Yaml: "name: acme\n"}},
			Actor: "root@host", Note: "first", AtMs: 1_763_900_000_000, FullOffset: -1, Generations: map[string]uint32{"acme": 2},
		},
		"command": &pb.Command{
			Number: 4, Base: 3, Verb: pb.Verb_VERB_SUSPEND, Scope: &pb.Scope{Tenant: "acme", Destination: "one.example"}, Actor: "root@host",
			Reason: "asked", AtMs: 1_763_900_000_000, Suspensions: []*pb.Suspension{{Scope: &pb.Scope{Queue: "acme"}, SinceMs: 1_763_900_000_000}},
		},
		"command-resumed": resumed(),
		"deadletter-dead": &pb.DeadletterRecord{What: &pb.DeadletterRecord_Dead{Dead: &pb.Deadletter{
			Topic: "qstream.queue.acme.v1", Partition: 1, Offset: 98, AppendedMs: 1_763_900_000_000, Stage: "deliver", Error: "decode leg",
			Key: []byte("one.example"), Value: []byte{255, 0}, Headers: []*pb.Header{{Key: "id", Value: []byte("01JD")}},
		}}},
		"webhook-end": settled(), "webhook-undelivered": undelivered(), "command-webhook": rewound(), "command-webhook-resumed": resumedHook(),
		"deadletter-end": &pb.DeadletterRecord{What: &pb.DeadletterRecord_End{End: &pb.DeadletterEnd{Offset: 7, Action: "retry", Actor: "root@host"}}},
	}
	maps.Copy(all, lookedAt(envelope))
	return all
}

func usage() *pb.Usage {
	return &pb.Usage{
		Kind: pb.UsageKind_USAGE_KIND_OUT, Writer: "edge1.example 01JD0000000000000000000001", Tenant: "acme", User: "ann@acme.example",
		Minute: 29_398_333, Messages: 12, Recipients: 30, Bytes: 123_456,
	}
}

func usageWaiting() *pb.Usage {
	return &pb.Usage{
		Kind: pb.UsageKind_USAGE_KIND_WAITING, Writer: "ledger 01JD0000000000000000000002", Tenant: "acme",
		Messages: 7, Recipients: 9, Bytes: 70_000, OldestMs: 1_763_900_000_000, AtMs: 1_763_900_300_000,
	}
}

func parkedHeld() *pb.Leg {
	return &pb.Leg{
		MessageId: "01JD0000000000000000000001", Number: 1, Step: 2, Tenant: "acme", Queue: "acme", Destination: "one.example",
		Recipients: []*pb.Recipient{{Address: "a@one.example", Held: true}}, Content: ref(), BornMs: 1_763_900_000_456,
		ParkedMs: 1_763_900_000_456, Reason: pb.Reason_REASON_HELD,
	}
}

func rewound() *pb.Command {
	return &pb.Command{
		Number: 6, Base: 5, Verb: pb.Verb_VERB_REWIND_WEBHOOK, Webhook: "crm", SinceMs: 1_763_800_000_000, Actor: "root@host", Reason: "lost some",
		Webhooks: []*pb.WebhookOrder{{Webhook: "crm", PausedMs: 1_763_700_000_000, Actor: "root@host", Reason: "moves", RewoundMs: 1_763_900_000_000, SinceMs: 1_763_800_000_000}},
	}
}

func resumedHook() *pb.Command {
	return &pb.Command{
		Number: 101, Base: 100, Verb: pb.Verb_VERB_SNAPSHOT, Actor: "qstream",
		Webhooks: []*pb.WebhookOrder{{Webhook: "crm", Resumed: 7}},
	}
}

func undelivered() *pb.WebhookRecord {
	return &pb.WebhookRecord{What: &pb.WebhookRecord_Undelivered{Undelivered: &pb.Undelivered{
		Webhook: "crm", Event: &pb.Event{Id: "01JD.0.2.4", MessageId: "01JD", Type: pb.EventType_EVENT_TYPE_DELIVERED},
		FirstMs: 1_763_900_000_000, LastMs: 1_763_990_000_000, Attempts: 40, Error: "503 Service Unavailable",
	}}}
}

func settled() *pb.WebhookRecord {
	return &pb.WebhookRecord{What: &pb.WebhookRecord_End{End: &pb.UndeliveredEnd{
		Offset: 7, Action: "retry", Actor: "root@host", Webhook: "crm", Event: &pb.Event{Id: "01JD.0.2.4", MessageId: "01JD"},
	}}}
}

func resumed() *pb.Command {
	return &pb.Command{
		Number: 5, Base: 4, Verb: pb.Verb_VERB_RESUME_HELD, Scope: &pb.Scope{Tenant: "acme"}, Actor: "root@host", AtMs: 1_763_900_000_000,
		Resumed: []*pb.Resumed{{Scope: &pb.Scope{Queue: "acme"}, AtMs: 1_763_900_000_000}},
	}
}
