package directory

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// putApply publishes an apply as another version, or a broken writer, would.
func putApply(t *testing.T, b *bus.Bus, a *pb.Apply) {
	t.Helper()
	value, err := proto.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	bustest.Put(t, b, bus.Record{Topic: schemas.Directory, Value: value})
}

// TestNotUnderstoodKeepsTheLastSnapshot: documents of a later version, or that
// contradict each other, leave the last snapshot in force; the next apply that
// replaces them mends it, and no queue changes its generation by that.
func TestNotUnderstoodKeepsTheLastSnapshot(t *testing.T) {
	t.Parallel()
	for name, doc := range map[string]*pb.Document{
		"a key of a later version": {Kind: KindQueue, Name: "beta", Yaml: "kind: queue\nname: beta\ncolour: red\n"},
		"a later kind":             {Kind: "rule", Name: "beta", Yaml: "kind: rule\nname: beta\n"},
		"a reference to nothing":   {Kind: KindTenant, Name: "beta", Yaml: "kind: tenant\nname: beta\nqueue: nowhere\n"},
		"another document":         {Kind: KindQueue, Name: "beta", Yaml: "kind: queue\nname: gamma\n"},
		"no YAML":                  {Kind: KindQueue, Name: "beta", Yaml: "{{{"},
		"a hostile name":           {Kind: "\x1b[2J", Name: "\x00", Yaml: "x"},
	} {
		t.Run(name, func(t *testing.T) {
			b := bustest.New(t)
			applyText(t, b, "kind: queue\nname: acme\n")
			applyText(t, b, "kind: tenant\nname: omega\n", Ref{KindQueue, "acme"})
			applyText(t, b, "kind: queue\nname: acme\n")
			f := follow(t, b)
			putApply(t, b, &pb.Apply{
				Number: 4, Base: 3, Documents: []*pb.Document{doc},
				Retired: []*pb.Retired{{Name: "acme", Generation: 1, Pool: "default", Partitions: 3, RetiredMs: time.Now().UnixMilli()}},
			})
			_, err := Apply(t.Context(), b, Change{Documents: documentsOf(t, "kind: queue\nname: delta\n")}, Options{})
			if err == nil {
				t.Fatal("an apply beside what isn't understood succeeded")
			}
			mended, err := Apply(t.Context(), b, Change{Delete: []Ref{{doc.Kind, doc.Name}}}, Options{})
			if err != nil || mended.Number != 5 {
				t.Fatalf("%+v, %v", mended, err)
			}
			s := f.await(t, 5)
			if f.Fault() != nil || f.Skipped() != 0 {
				t.Errorf("fault %v, skipped %d", f.Fault(), f.Skipped())
			}
			if q := s.Queue("acme"); q == nil || q.Generation != 2 || s.Queue("omega").Generation != 1 || len(s.Retired()) != 1 {
				t.Errorf("%+v, retired %d", q, len(s.Retired()))
			}
		})
	}
}

// TestNotReadyWithoutADirectory: a process that starts on a directory that it
// doesn't understand has nothing to decide by; it isn't ready until that is
// mended.
func TestNotReadyWithoutADirectory(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	applyText(t, b, "kind: queue\nname: acme\n")
	putApply(t, b, &pb.Apply{Number: 2, Base: 1, Documents: []*pb.Document{{Kind: KindQueue, Name: "beta", Yaml: "colour: red"}}})
	f := start(t, b)
	for deadline := time.Now().Add(20 * time.Second); f.Fault() == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no fault is told")
		}
	}
	select {
	case <-f.Ready():
		t.Fatal("ready without a directory")
	default:
	}
	applyText(t, b, "", Ref{KindQueue, "beta"})
	f.await(t, 3)
	<-f.Ready()
}
