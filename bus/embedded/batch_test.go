package embedded

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"qstream/bus"
	"qstream/schemas"
)

// What a power loss takes of an index is made anew as it was, so that records
// of a transaction that never ended stay unseen.
func TestIndexIsCompleted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k, err := Start(Config{Dir: dir, MinFree: 1})
	if err != nil {
		t.Fatal(err)
	}
	b, err := bus.Dial(bus.Config{Seeds: k.Seeds(), Barrier: k.Barrier})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.CreateTopics(t.Context(), schemas.FixedTopics(), bus.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, commit := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort} {
		c, err := kgo.NewClient(kgo.SeedBrokers(k.Seeds()...), kgo.TransactionalID("mend"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := c.ProduceSync(t.Context(), &kgo.Record{Topic: schemas.Received, Partition: 0, Value: []byte("in a transaction")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := c.EndTransaction(t.Context(), commit); err != nil {
			t.Fatal(err)
		}
		c.Close()
		r := received(1)
		r.Partition = 0
		if err := b.Publish(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	b.Close()
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	index := filepath.Join(partitionDir(dataDir(dir), schemas.Received, 0), "0.idx")
	want, err := os.ReadFile(index)
	if err != nil || len(want) != 6*indexEntry {
		t.Fatalf("%d bytes, %v", len(want), err)
	}
	for n := range len(want) + 1 {
		if err := os.WriteFile(index, want[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if err := mendAll(dataDir(dir)); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(index)
		if err != nil || len(got) != len(want) {
			t.Fatalf("%d bytes left: %d bytes, %v", n, len(got), err)
		}
		for i := 0; i < len(want); i += indexEntry {
			// Version, epoch and flag; the times are reckoned anew.
			if w, g := want[i:i+indexEntry], got[i:i+indexEntry]; w[0] != g[0] || !bytes.Equal(w[2:6], g[2:6]) || w[14] != g[14] {
				t.Errorf("%d bytes left, entry %d: %x, want %x", n, i/indexEntry, g, w)
			}
		}
	}
}
