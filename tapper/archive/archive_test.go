package archive

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/directory"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
	"qstream/tapper/sink/sinks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const site = `
kind: tenant
name: acme
domains: [acme.example]
---
kind: tenant
name: blue
domains: [blue.example]
---
kind: route
name: all
match: {domain: "*"}
via: smtp://mx
`

func apply(t *testing.T, b *bus.Bus, text string) {
	t.Helper()
	docs, err := directory.Parse(directory.File{Name: "test.yaml", Data: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := directory.Apply(t.Context(), b, directory.Change{Documents: docs}, directory.Options{}); err != nil {
		t.Fatal(err)
	}
}

// start runs the archives on b until stop is called, or the test ends.
func start(t *testing.T, b *bus.Bus, cfg Config) (stop func()) {
	t.Helper()
	d := directory.Follow(b)
	a, err := New(cfg, Deps{Bus: b, Directory: d, Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, run := range []func(context.Context) error{d.Run, a.Run} {
		wg.Go(func() {
			if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	stop = func() { cancel(); wg.Wait() }
	t.Cleanup(stop)
	return stop
}

func message(n int, to ...string) *pb.Received {
	text := fmt.Sprintf("Subject: %d\r\n\r\nbody %d\r\n", n, n)
	sum := sha256.Sum256([]byte(text))
	r := &pb.Received{
		Id: fmt.Sprintf("01KJM0000000000000000%05d", n), Session: &pb.Session{Id: "s", Protocol: pb.Protocol_PROTOCOL_SMTP},
		Envelope: &pb.Envelope{ReversePath: "a@sender.example"}, Prepend: []byte("Received: here\r\n"),
		Content: &pb.Content{Where: &pb.Content_Inline{Inline: []byte(text)}, Size: int64(len(text)), Sha256: sum[:]},
	}
	for i, address := range to {
		r.Envelope.Recipients = append(r.Envelope.Recipients, &pb.Recipient{Number: uint32(i), Address: address})
	}
	return r
}

func tapped(t *testing.T, rs []bus.Record) []*pb.Tapped {
	t.Helper()
	seen := map[string]bool{}
	var all []*pb.Tapped
	for _, r := range rs {
		var p pb.Tapped
		if err := proto.Unmarshal(r.Value, &p); err != nil {
			t.Fatal(err)
		}
		if seen[p.MessageId] {
			t.Errorf("%s is there twice", p.MessageId)
		}
		seen[p.MessageId] = true
		all = append(all, &p)
	}
	return all
}

// eventually waits for what must come.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func files(folder string) []string {
	names, _ := filepath.Glob(folder + "/new/*")
	return names
}

func archive(name, rest, sink string) string {
	return "---\nkind: archive\nname: " + name + "\n" + rest + "\nsink: " + sink + "\n"
}

// TestArchives: each archive gets its recipients and no others, by topic and in
// its sink.
func TestArchives(t *testing.T) {
	b := bustest.New(t)
	dir := t.TempDir()
	apply(t, b, site+archive("acme", "tenant: acme", "maildir:"+dir+"/acme")+archive("everything", "", "file:"+dir+"/all")+
		archive("envelopes", "envelope: true", "file:"+dir+"/envelopes")+archive("reports", "reports: true\ntenant: blue", "file:"+dir+"/reports"))
	start(t, b, Config{})
	report := message(3, "c@blue.example")
	bustest.Put(t, b,
		bus.NewReceived(message(1, "a@acme.example", "b@blue.example", "x@elsewhere.example")),
		bus.Record{Topic: schemas.Received, Partition: bus.AnyPartition, Key: []byte("x"), Value: []byte("\xff garbage")},
		bus.NewReceived(message(2, "b@blue.example")),
		bus.NewReinject(&pb.Reinject{Id: report.Id, Origin: pb.Origin_ORIGIN_DSN, Envelope: report.Envelope, Content: report.Content}),
		bus.NewReinject(&pb.Reinject{Id: message(2).Id, Origin: pb.Origin_ORIGIN_REROUTE, Envelope: report.Envelope, Content: report.Content}),
	)
	all := tapped(t, bustest.Want(t, b, schemas.Tap("everything"), 2))
	for _, p := range all {
		if !p.Full || len(p.Envelope.Recipients)%2 != 1 || p.Decided != 1 || !p.Content.Inline {
			t.Errorf("%v", p)
		}
	}
	for _, p := range tapped(t, bustest.Want(t, b, schemas.Tap("acme"), 1)) {
		if len(p.Envelope.Recipients) != 1 || p.Envelope.Recipients[0].Address != "a@acme.example" {
			t.Errorf("%v", p)
		}
	}
	tapped(t, bustest.Want(t, b, schemas.Tap("envelopes"), 2))
	tapped(t, bustest.Want(t, b, schemas.Tap("reports"), 3))
	bustest.Want(t, b, schemas.Deadletter, 1)
	for folder, want := range map[string]int{"all": 2, "envelopes": 2, "reports": 3} {
		eventually(t, folder, func() bool {
			v, err := sinks.Verify(filepath.Join(dir, folder), nil)
			return err == nil && len(v.Wrong) == 0 && v.Manifests.Lines == want && (v.Manifests.Files == want) == (folder != "envelopes")
		})
	}
	eventually(t, "a file for acme", func() bool { return len(files(dir+"/acme")) == 1 })
	text, err := os.ReadFile(files(dir + "/acme")[0])
	if err != nil || !strings.Contains(string(text), "Received: here\nSubject: 1\n\nbody 1\n") ||
		strings.Contains(string(text), "blue.example") || strings.Contains(string(text), "elsewhere") {
		t.Errorf("%s, %v", text, err)
	}
}

// TestDeadSink: what a sink doesn't take waits in order, and delays nobody
// else; a changed sink takes it.
func TestDeadSink(t *testing.T) {
	b := bustest.New(t)
	dir := t.TempDir()
	blocker := filepath.Join(dir, "dead")
	if err := os.WriteFile(blocker, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	apply(t, b, site+archive("dead", "partitions: 1", "file:"+blocker+"/x")+archive("alive", "", "maildir:"+dir+"/alive"))
	start(t, b, Config{Tell: time.Millisecond})
	const n = 20
	for i := range n {
		bustest.Put(t, b, bus.NewReceived(message(i, "a@acme.example")))
	}
	eventually(t, "the other archive", func() bool { return len(files(dir+"/alive")) == n })
	eventually(t, "a sink that is told to fail", func() bool { return failing(t, b, "dead") != "" })
	if err := os.Remove(blocker); err != nil {
		t.Fatal(err)
	}
	var ids []string
	eventually(t, "all of them", func() bool {
		v, err := sinks.Verify(blocker+"/x", nil)
		return err == nil && len(v.Wrong) == 0 && v.Manifests.Lines == n && v.Manifests.Files == n
	})
	books, _ := filepath.Glob(blocker + "/x/*/*.jsonl")
	for _, book := range books {
		text, _ := os.ReadFile(book)
		for line := range strings.Lines(string(text)) {
			_, rest, _ := strings.Cut(line, `"id":"`)
			id, _, _ := strings.Cut(rest, `"`)
			ids = append(ids, id)
		}
	}
	var want []string
	for _, p := range tapped(t, bustest.Records(t, b, schemas.Tap("dead"))) {
		want = append(want, "dead."+p.MessageId)
	}
	if !slices.Equal(ids, want) {
		t.Errorf("order %v, want %v", ids, want)
	}
	eventually(t, "the end of the trouble", func() bool { return failing(t, b, "dead") == "" })
}

// failing is what the archive's sink is told to have said.
func failing(t *testing.T, b *bus.Bus, name string) string {
	t.Helper()
	states, err := States(t.Context(), b, []string{name})
	if err != nil {
		t.Fatal(err)
	}
	return states[name].Error
}

// TestTroubleOfAnother: trouble that a process told which is gone ends when the
// sink takes copies of another.
func TestTroubleOfAnother(t *testing.T) {
	b := bustest.New(t)
	blocker := filepath.Join(t.TempDir(), "dead")
	if err := os.WriteFile(blocker, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	apply(t, b, site+archive("dead", "partitions: 1", "file:"+blocker+"/x"))
	stop := start(t, b, Config{})
	bustest.Put(t, b, bus.NewReceived(message(1, "a@acme.example")))
	eventually(t, "a sink that is told to fail", func() bool { return failing(t, b, "dead") != "" })
	stop()
	if err := os.Remove(blocker); err != nil {
		t.Fatal(err)
	}
	start(t, b, Config{})
	eventually(t, "the end of the trouble", func() bool { return failing(t, b, "dead") == "" })
}

// TestFaultBetweenOutputAndCommit: copies are on the topic once, and in the
// sink once each, whatever was tried again.
func TestFaultBetweenOutputAndCommit(t *testing.T) {
	broker := bustest.Start(t)
	b := broker.Dial(t, bus.Config{})
	dir := t.TempDir()
	apply(t, b, site+archive("one", "", "maildir:"+dir+"/one"))
	var faults atomic.Int32
	faulty := broker.Dial(t, bus.Config{Barrier: func(context.Context) error {
		if n := faults.Add(1); n%2 == 1 && n < 12 {
			return errors.New("disk trouble")
		}
		return nil
	}})
	start(t, faulty, Config{})
	const n = 50
	for i := range n {
		bustest.Put(t, b, bus.NewReceived(message(i, "a@acme.example")))
	}
	tapped(t, bustest.Want(t, b, schemas.Tap("one"), n))
	eventually(t, "all files", func() bool { return len(files(dir+"/one")) >= n })
	eventually(t, "all commits", func() bool {
		lag, err := b.Lag(t.Context(), schemas.SinkGroup("one"), []string{schemas.Tap("one")})
		sum := int64(0)
		for _, l := range lag[schemas.Tap("one")] {
			sum += l
		}
		return err == nil && sum <= 3 // markers of transactions
	})
	if got := len(files(dir + "/one")); got != n || faults.Load() < 3 {
		t.Errorf("%d files of %d copies, %d commits", got, n, faults.Load())
	}
}

// TestNextGoesOn: who takes over goes on where the last one stood, with the
// sequence too.
func TestNextGoesOn(t *testing.T) {
	broker := bustest.Start(t)
	b := broker.Dial(t, bus.Config{})
	dir := t.TempDir()
	apply(t, b, site+archive("one", "partitions: 1", "file:"+dir+"/one"))
	for round := range 3 {
		stop := start(t, broker.Dial(t, bus.Config{}), Config{})
		for i := range 5 {
			bustest.Put(t, b, bus.NewReceived(message(round*5+i, "a@acme.example")))
		}
		eventually(t, "all of the round", func() bool {
			v, err := sinks.Verify(dir+"/one", nil)
			return err == nil && len(v.Wrong) == 0 && v.Manifests.Lines == (round+1)*5 // without a gap in the sequence
		})
		stop()
	}
}

// TestBeginsWithTheArchive: what came before it isn't copied, what came with it
// is, and nothing is read until then.
func TestBeginsWithTheArchive(t *testing.T) {
	b := bustest.New(t)
	dir := t.TempDir()
	apply(t, b, site)
	for i := range 10 {
		bustest.Put(t, b, bus.NewReceived(message(i, "a@acme.example")))
	}
	start(t, b, Config{Idle: 10 * time.Millisecond})
	eventually(t, "a group that was moved on", func() bool {
		lag, err := b.Lag(t.Context(), schemas.ArchiveGroup, []string{schemas.Received})
		sum := int64(0)
		for _, l := range lag[schemas.Received] {
			sum += l
		}
		return err == nil && sum == 0
	})
	apply(t, b, archive("late", "", "maildir:"+dir+"/late"))
	p := message(10, "a@acme.example")
	p.Directory = 2
	bustest.Put(t, b, bus.NewReceived(p))
	got := tapped(t, bustest.Want(t, b, schemas.Tap("late"), 1))
	if got[0].MessageId != p.Id {
		t.Errorf("%v", got)
	}
}

// TestKeepsWhatWaits: content that would age out is copied to hold, and comes
// from there.
func TestKeepsWhatWaits(t *testing.T) {
	broker := bustest.Start(t)
	b := broker.Dial(t, bus.Config{})
	dir := t.TempDir()
	blocker := filepath.Join(dir, "dead")
	if err := os.WriteFile(blocker, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	apply(t, b, site+archive("one", "", "maildir:"+blocker+"/x"))
	bustest.Put(t, b, bus.NewReceived(message(1, "a@acme.example")))
	stop := start(t, broker.Dial(t, bus.Config{}), Config{Tell: time.Millisecond})
	bustest.Want(t, b, schemas.Tap("one"), 1)
	stop()
	// Six days later the sink is still down.
	late := func() time.Time { return time.Now().Add(6*24*time.Hour + time.Hour) }
	d := directory.Follow(b)
	a, err := New(Config{}, Deps{Bus: b, Directory: d, Now: late})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.keepOf(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	if err := a.keepOf(t.Context(), "one"); err != nil { // it is known by now
		t.Fatal(err)
	}
	held := bustest.Want(t, b, schemas.Hold, 1)
	tap := bustest.Records(t, b, schemas.Tap("one"))[0]
	copied := tapped(t, []bus.Record{tap})[0].Content
	ref := a.kept.of("one", tap.Partition, tap.Offset, copied)
	if ref.GetTopic() != schemas.Hold || ref.Offsets[0] != held[0].Offset {
		t.Fatalf("%v", ref)
	}
	content, err := b.Open(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(content)
	if err != nil || string(text) != "Subject: 1\r\n\r\nbody 1\r\n" {
		t.Errorf("%q, %v", text, err)
	}
	if len(bustest.Records(t, b, schemas.Hold)) != 1 {
		t.Error("it was copied twice")
	}
	// A topic that was deleted and made again has another copy at that place.
	other := proto.CloneOf(copied)
	other.MessageId = message(2, "a@acme.example").Id
	if ref := a.kept.of("one", tap.Partition, tap.Offset, other); ref != nil {
		t.Errorf("another message's content: %v", ref)
	}
}

// TestKnowsWhatIsKept: no copy is read before it is known what went to hold.
func TestKnowsWhatIsKept(t *testing.T) {
	b := bustest.New(t)
	a, err := New(Config{Me: "mx.example"}, Deps{Bus: b, Directory: directory.Follow(b)})
	if err != nil {
		t.Fatal(err)
	}
	spec, err := directory.ParseSink("maildir:" + t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r := a.start(t.Context(), &directory.Archive{Name: "one", Sink: spec}, make(chan error)) // its follower doesn't run
	r.stop()
	<-r.done
	if r.sink != nil {
		t.Error("it has a sink already")
	}
}

// TestLostContent: a message whose content aged out doesn't hold up the others,
// and is told.
func TestLostContent(t *testing.T) {
	b := bustest.New(t)
	dir := t.TempDir()
	apply(t, b, site+archive("one", "partitions: 1", "maildir:"+dir+"/one"))
	lost := message(1, "a@acme.example")
	lost.Content = &pb.Content{Size: 5, Sha256: make([]byte, 32), Where: &pb.Content_Ref{Ref: &pb.ContentRef{
		MessageId: lost.Id, Topic: schemas.Content(schemas.DefaultClass), Offsets: []int64{77}, Size: 5, Sha256: make([]byte, 32),
		StoredMs: time.Now().Add(-365 * 24 * time.Hour).UnixMilli(),
	}}}
	start(t, b, Config{})
	bustest.Put(t, b, bus.NewReceived(lost))
	bustest.Want(t, b, schemas.Tap("one"), 1)
	bustest.Put(t, b, bus.NewReceived(message(2, "a@acme.example")))
	bustest.Want(t, b, schemas.Deadletter, 1)
	eventually(t, "the next message", func() bool { return len(files(dir+"/one")) == 1 })
}

// TestOthersUser: a tenant's archive isn't told which user of another tenant
// handed a message in; that tenant's own and the operators' are.
func TestOthersUser(t *testing.T) {
	b := bustest.New(t)
	dir := t.TempDir()
	apply(t, b, site+archive("acme", "tenant: acme", "file:"+dir+"/acme")+archive("blue", "tenant: blue", "file:"+dir+"/blue")+
		archive("everything", "", "file:"+dir+"/all"))
	start(t, b, Config{})
	p := message(1, "a@acme.example", "b@blue.example")
	p.Session = &pb.Session{Id: "s", ClientIp: "192.0.2.1", Tenant: "acme", AuthUser: "ann@acme.example"}
	bustest.Put(t, b, bus.NewReceived(p))
	for name, want := range map[string]string{"acme": "ann@acme.example", "blue": "", "everything": "ann@acme.example"} {
		got := tapped(t, bustest.Want(t, b, schemas.Tap(name), 1))[0].Session
		if got.AuthUser != want || (got.Tenant == "") != (want == "") || got.ClientIp != "192.0.2.1" {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestGarbageOnTap: a record that no sink can take is put aside; what lies
// behind it is taken.
func TestGarbageOnTap(t *testing.T) {
	b := bustest.New(t)
	dir := t.TempDir()
	apply(t, b, site+archive("one", "partitions: 1", "maildir:"+dir+"/one"))
	garbage := []*pb.Tapped{
		{},
		{Archive: "one"},
		{Archive: "other", MessageId: "x"},
		{Archive: "one", MessageId: "../../x"},
		{Archive: "one", MessageId: strings.Repeat("x", 200)},
		{Archive: "one", MessageId: "x", Full: true},
		{Archive: "one", MessageId: "x", Full: true, Content: &pb.ContentRef{Topic: schemas.Received, Size: -1}},
	}
	for _, g := range garbage {
		value, err := proto.Marshal(g)
		if err != nil {
			t.Fatal(err)
		}
		bustest.Put(t, b, bus.Record{Topic: schemas.Tap("one"), Partition: 0, Key: []byte("x"), Value: value})
	}
	start(t, b, Config{})
	bustest.Put(t, b, bus.NewReceived(message(1, "a@acme.example")))
	eventually(t, "what lies behind it", func() bool { return len(files(dir+"/one")) == 1 })
	bustest.Want(t, b, schemas.Deadletter, len(garbage))
}
