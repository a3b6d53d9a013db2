package directory

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/mail"
	"qstream/schemas"
)

func documentsOf(t testing.TB, text string) []Document {
	t.Helper()
	docs, err := Parse(File{Name: "test.yaml", Data: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	return docs
}

func applyText(t testing.TB, b *bus.Bus, text string, del ...Ref) Applied {
	t.Helper()
	done, err := Apply(t.Context(), b, Change{Documents: documentsOf(t, text), Delete: del}, Options{Actor: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// follow runs a follower for the test and waits until it is ready.
func follow(t testing.TB, b *bus.Bus) *Follower {
	t.Helper()
	f := start(t, b)
	select {
	case <-f.Ready():
	case <-time.After(20 * time.Second):
		t.Fatal("follower not ready")
	}
	return f
}

// start runs a follower for the test.
func start(t testing.TB, b *bus.Bus) *Follower {
	t.Helper()
	f := Follow(b)
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := f.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); done.Wait() })
	return f
}

func (f *Follower) await(t testing.TB, number uint64) *Snapshot {
	t.Helper()
	for deadline := time.After(20 * time.Second); ; {
		changed, s := f.Changed(), f.Snapshot()
		if s.Number >= number {
			return s
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("follower is at %d, want %d", s.Number, number)
		}
	}
}

func TestApplyIsFollowed(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	f := follow(t, b)
	if s := f.Snapshot(); s.Number != 0 || s.Queue(Default) == nil || s.Tenant(Default) == nil {
		t.Fatalf("empty directory: %+v", s)
	}
	done := applyText(t, b, "kind: tenant\nname: acme\ndomains: acme.example\n")
	if done.Number != 1 || !done.Changed || done.Created == nil {
		t.Fatalf("%+v", done)
	}
	start := time.Now()
	if s := f.await(t, 1); s.Owner("acme.example") == nil {
		t.Fatal("the tenant is not there")
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("followed after %s", took)
	}
	again := applyText(t, b, "name: acme\nkind: tenant\ndomains: [acme.example]\n# a comment\n")
	if again.Changed || again.Number != 1 {
		t.Errorf("the same again made number %d", again.Number)
	}
	bustest.Put(t, b, bus.Record{Topic: schemas.Queue("acme", 1), Partition: bus.AnyPartition, Value: []byte("x")})
}

func TestApplyDryRunAndRefusalsChangeNothing(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	docs := documentsOf(t, "kind: tenant\nname: acme\nqueue: nowhere\n")
	if _, err := Apply(t.Context(), b, Change{Documents: docs}, Options{}); err == nil {
		t.Error("a reference to nothing was applied")
	}
	docs = documentsOf(t, "kind: queue\nname: acme\nlifetime: 30d\n")
	if _, err := Apply(t.Context(), b, Change{Documents: docs}, Options{Retention: 31 * 24 * time.Hour}); err == nil {
		t.Error("a lifetime beyond retention was applied")
	}
	done, err := Apply(t.Context(), b, Change{Documents: docs}, Options{Retention: 32 * 24 * time.Hour, DryRun: true})
	if err != nil || !done.Changed || done.Number != 1 {
		t.Errorf("%+v %v", done, err)
	}
	if _, err := Apply(t.Context(), b, Change{Delete: []Ref{{KindQueue, "gone"}}}, Options{}); err == nil {
		t.Error("what isn't there was deleted")
	}
	if rs := bustest.Records(t, b, schemas.Directory); len(rs) != 0 {
		t.Errorf("%d records were published", len(rs))
	}
}

func TestApplyOnAnOldBaseIsToldSo(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	applyText(t, b, "kind: queue\nname: one\n")
	zero := uint64(0)
	_, err := Apply(t.Context(), b, Change{Documents: documentsOf(t, "kind: queue\nname: two\n")}, Options{Base: &zero})
	if !errors.Is(err, ErrConflict) {
		t.Errorf("got %v", err)
	}
}

// TestAppliersRace has many appliers add to the directory at once. Those with
// a base may lose and must be told; those without go on until they win. Every
// number has one winner, and the result holds exactly what winners put.
func TestAppliersRace(t *testing.T) {
	t.Parallel()
	broker := bustest.Start(t)
	raceAppliers(t, func() *bus.Bus { return broker.Dial(t, bus.Config{}) })
}

// TestAppliersRaceOnKafka is the same on the cluster that QSTREAM_TEST_KAFKA
// names.
func TestAppliersRaceOnKafka(t *testing.T) {
	seeds := os.Getenv("QSTREAM_TEST_KAFKA")
	if seeds == "" {
		t.Skip("QSTREAM_TEST_KAFKA names no cluster")
	}
	dial := func() *bus.Bus {
		b, err := bus.Dial(bus.Config{Seeds: strings.Split(seeds, ",")})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.Close)
		return b
	}
	if _, err := dial().CreateTopics(t.Context(), schemas.FixedTopics(), bus.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	raceAppliers(t, dial)
}

// racers are what a race of appliers has seen.
type racers struct {
	mu   sync.Mutex
	wins map[uint64]string // winner by number
	lost int
}

func (r *racers) apply(t *testing.T, b *bus.Bus, name string, based bool) {
	o := Options{Actor: name}
	if based {
		head := newFold()
		if err := head.read(t.Context(), b); err != nil {
			t.Error(err)
		}
		o.Base = &head.number
	}
	docs := documentsOf(t, "kind: route\nname: "+name+"\nmatch: {domain: "+name+".example}\nvia: smtp://mx\n")
	applied, err := Apply(t.Context(), b, Change{Documents: docs}, o)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case errors.Is(err, ErrConflict) && based:
		r.lost++
	case err != nil:
		t.Error(err)
	case r.wins[applied.Number] != "":
		t.Errorf("number %d has two winners", applied.Number)
	default:
		r.wins[applied.Number] = name
	}
}

func raceAppliers(t *testing.T, dial func() *bus.Bus) {
	const appliers, rounds = 8, 5
	before, err := Read(t.Context(), dial())
	if err != nil {
		t.Fatal(err)
	}
	r := &racers{wins: map[uint64]string{}}
	run := strings.ToLower(mail.NewID(time.Now()))
	var done sync.WaitGroup
	for i := range appliers {
		b := dial()
		done.Go(func() {
			for round := range rounds {
				r.apply(t, b, fmt.Sprintf("%s-%d-%d", run, i, round), i%2 == 0)
			}
		})
	}
	done.Wait()
	s := follow(t, dial()).Snapshot()
	if len(r.wins)+r.lost != appliers*rounds || s.Number != before.Number+uint64(len(r.wins)) {
		t.Errorf("%d wins, %d lost, head went from %d to %d", len(r.wins), r.lost, before.Number, s.Number)
	}
	for number, name := range r.wins {
		if _, ok := s.Document(Ref{KindRoute, name}); !ok {
			t.Errorf("number %d (%s) won and isn't there", number, name)
		}
	}
	if added := len(Edits(before, s)); added != len(r.wins) {
		t.Errorf("%d documents of %d wins", added, len(r.wins))
	}
	t.Logf("%d wins, %d lost and told", len(r.wins), r.lost)
	var clean Change // the cluster may be another suite's next
	for _, name := range r.wins {
		clean.Delete = append(clean.Delete, Ref{KindRoute, name})
	}
	if _, err := Apply(t.Context(), dial(), clean, Options{}); err != nil {
		t.Error(err)
	}
}

func TestGarbageOnTheTopicIsSkipped(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	applyText(t, b, "kind: queue\nname: one\n")
	f := follow(t, b)
	for _, value := range []string{"", "garbage", "\xff\xff\xff\xff", "\x08\x02\x10\x01"} {
		bustest.Put(t, b, bus.Record{Topic: schemas.Directory, Value: []byte(value)})
	}
	applyText(t, b, "kind: queue\nname: two\n")
	if s := f.await(t, 2); s.Queue("one") == nil || s.Queue("two") == nil {
		t.Error("a queue is missing")
	}
	if f.Skipped() != 4 {
		t.Errorf("skipped %d", f.Skipped())
	}
}

func TestAFullRecordNowAndThen(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	for i := range fullEvery + 2 {
		applyText(t, b, fmt.Sprintf("kind: queue\nname: acme\nnumber: %d\n", i+1))
	}
	var full []uint64
	for _, r := range bustest.Records(t, b, schemas.Directory) {
		a, err := decodeApply(r)
		if err != nil {
			t.Fatal(err)
		}
		if a.Full {
			full = append(full, a.Number)
		}
	}
	if diff := cmp.Diff([]uint64{1, fullEvery + 1}, full); diff != "" {
		t.Error(diff)
	}
	// Readers start there: garbage at the end doesn't hide it, and what is
	// read so is what reading everything makes.
	for range bus.LookBack - 1 {
		bustest.Put(t, b, bus.Record{Topic: schemas.Directory, Value: []byte("garbage")})
	}
	head := newFold()
	if err := head.seek(t.Context(), b); err != nil || head.next != fullEvery {
		t.Errorf("starts at %d, want %d (%v)", head.next, fullEvery, err)
	}
	short, err := Read(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	long, err := ReadNumber(t.Context(), b, fullEvery+2)
	if err != nil || len(Edits(long, short)) > 0 || short.Number != long.Number || short.Queue("acme").Number != fullEvery+2 {
		t.Errorf("number %d, %v", short.Number, err)
	}
	if s := follow(t, b).Snapshot(); s.Number != long.Number {
		t.Errorf("the follower is at %d", s.Number)
	}
	bustest.Put(t, b, bus.Record{Topic: schemas.Directory, Value: []byte("garbage")})
	if s := follow(t, b).Snapshot(); s.Number != long.Number {
		t.Errorf("the follower is at %d", s.Number)
	}
}

func TestGenerations(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	f := follow(t, b)
	gone := func(s *Snapshot) (names []string) {
		for _, q := range s.Retired() {
			names = append(names, fmt.Sprintf("%s.%d in %s", q.Name, q.Generation, q.Pool))
		}
		return names
	}
	steps := []struct {
		name, text string
		del        []Ref
		generation uint32 // of acme; 0: not live
		retired    []string
	}{
		{"made", "kind: queue\nname: acme\n", nil, 1, nil},
		{"changed", "kind: queue\nname: acme\nlifetime: 4d\n", nil, 1, nil},
		{"purged", "", []Ref{{KindQueue, "acme"}}, 0, []string{"acme.1 in default"}},
		{"returned, implicitly", "kind: tenant\nname: acme\n", nil, 2, []string{"acme.1 in default"}},
		{"told explicitly", "kind: queue\nname: acme\n", nil, 2, []string{"acme.1 in default"}},
		{"pool changed", "kind: queue\nname: acme\npool: big\n", nil, 3, []string{"acme.1 in default", "acme.2 in default"}},
		{"partitions changed", "kind: queue\nname: acme\npool: big\npartitions: 6\n", nil, 4, []string{"acme.1 in default", "acme.2 in default", "acme.3 in big"}},
		{"default defined", "kind: queue\nname: default\nlifetime: 3d\n", nil, 4, []string{"acme.1 in default", "acme.2 in default", "acme.3 in big"}},
		{"default moved", "kind: queue\nname: default\npool: big\n", nil, 4, []string{"acme.1 in default", "acme.2 in default", "acme.3 in big", "default.1 in default"}},
	}
	for i, step := range steps {
		applyText(t, b, step.text, step.del...)
		for _, s := range []*Snapshot{f.await(t, uint64(i+1)), follow(t, b).Snapshot()} {
			generation := uint32(0)
			if q := s.Queue("acme"); q != nil {
				generation = q.Generation
			}
			if generation != step.generation {
				t.Errorf("%s: generation %d, want %d", step.name, generation, step.generation)
			}
			if diff := cmp.Diff(step.retired, gone(s)); diff != "" {
				t.Errorf("%s: retired %s", step.name, diff)
			}
		}
	}
	if g := f.Snapshot().Queue(Default).Generation; g != 2 {
		t.Errorf("default has generation %d", g)
	}
}
