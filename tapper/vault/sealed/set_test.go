package sealed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// process is a process that runs a set of two logs.
type process struct {
	set   *Set
	queue *Queue
	state *state
	end   func() error // waits for its end
	stop  func() error
}

// state is all entries that count; a sweep says them again.
type state struct {
	mu    sync.Mutex
	took  []string
	swept int
}

func (s *state) take(_ Place, entry []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.took, string(entry)) {
		s.took = append(s.took, string(entry))
	} else if entry[0] != '*' {
		s.took = append(s.took, "twice: "+string(entry))
	}
}

// sweep says the number of entries so far, one a beat.
func (s *state) sweep(first bool, _ int) ([][]byte, bool) {
	if first {
		s.swept = 0
	}
	s.swept++
	return [][]byte{fmt.Appendf(nil, "* %d", s.swept)}, s.swept == 3
}

func (s *state) entries() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.took), func(e string) bool { return e[0] == '*' })
}

const testBeat = 20 * time.Millisecond

func startProcess(t *testing.T, b *bus.Bus, keys *Keys) *process {
	t.Helper()
	return startProcessTelling(t, b, keys, io.Discard)
}

// startProcessTelling is startProcess with a log.
func startProcessTelling(t *testing.T, b *bus.Bus, keys *Keys, log io.Writer) *process {
	t.Helper()
	p := &process{state: &state{}}
	p.queue = NewQueue(p.state.take, p.state.sweep)
	var err error
	p.set, err = New(Config{Bus: b, Keys: keys, Log: slog.New(slog.NewTextHandler(log, nil)), Logs: []Topic{
		{Name: schemas.VaultOrders, Every: testBeat, Size: 1024, Teller: p.queue},
		{Name: schemas.VaultLane(0), Every: testBeat, Size: 1024, Teller: NewQueue(func(Place, []byte) {}, nil)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.set.Run(ctx) }()
	p.end = sync.OnceValue(func() error { return <-ended })
	p.stop = func() error { cancel(); return p.end() }
	t.Cleanup(func() { _ = p.stop() })
	return p
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// Two processes write one log; one of them stands by, and takes over when the
// other is gone. What was said counts once, and all records are alike.
func TestTwoProcesses(t *testing.T) {
	b := bustest.New(t)
	keys := nKeys(t, 1)
	one, two := startProcess(t, b, keys), startProcess(t, b, keys)
	eventually(t, "one of the two writes", func() bool { return one.set.Active() != two.set.Active() })
	if two.set.Active() {
		one, two = two, one
	}
	say := func(p *process, from, to int) {
		for i := from; i < to; i++ {
			if err := p.queue.Append(t.Context(), fmt.Appendf(nil, "entry %d", i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	say(one, 0, 20)
	if err := one.stop(); err != nil {
		t.Fatal(err)
	}
	say(two, 20, 40)
	three := startProcess(t, b, keys)
	eventually(t, "a third process has read all", func() bool {
		select {
		case <-three.set.CaughtUp():
			return true
		default:
			return false
		}
	})
	if err := two.stop(); err != nil {
		t.Fatal(err)
	}
	say(three, 40, 50)
	var got []string
	err := Read(t.Context(), b, keys, schemas.VaultOrders, bus.Start{}, func(taken Taken) error {
		for _, e := range taken.Entries {
			if len(e) > 0 && e[0] != '*' {
				got = append(got, string(e))
			}
		}
		if taken.Missing > 0 {
			t.Errorf("%d records are missing before %d", taken.Missing, taken.Number)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range 50 {
		want = append(want, fmt.Sprintf("entry %d", i))
	}
	if !slices.Equal(got, want) {
		t.Errorf("the log says %v", got)
	}
	if !slices.Equal(two.state.entries(), want[:40]) {
		t.Errorf("the second process knows %v", two.state.entries())
	}
	// The third began where a sweep did: it has not read everything.
	if n := len(three.state.entries()); n >= 50 {
		t.Errorf("the third process read all %d entries from the beginning", n)
	}
	alike(t, b, schemas.VaultOrders)
	alike(t, b, schemas.VaultLane(0))
}

// alike checks that nothing about a log's records but their place differs.
func alike(t *testing.T, b *bus.Bus, topic string) {
	t.Helper()
	for _, r := range bustest.Records(t, b, topic) {
		if len(r.Value) != 1024 || len(r.Key) > 0 || len(r.Headers) > 0 {
			t.Fatalf("%s offset %d: %d bytes, key %q, %d headers", topic, r.Offset, len(r.Value), r.Key, len(r.Headers))
		}
		s := &pb.Sealed{}
		if err := proto.Unmarshal(r.Value, s); err != nil || len(s.Box) != boxSize(1024) {
			t.Fatalf("%s offset %d: a box of %d bytes, %v", topic, r.Offset, len(s.Box), err)
		}
	}
}

// With and without anything to say, both logs get one record a beat.
func TestTheRateIsTheClocks(t *testing.T) {
	b := bustest.New(t)
	p := startProcess(t, b, nKeys(t, 1))
	eventually(t, "it writes", p.set.Active)
	for i := range 30 {
		if err := p.queue.Append(t.Context(), fmt.Appendf(nil, "entry %d %0900d", i, i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
	full, empty := bustest.Records(t, b, schemas.VaultOrders), bustest.Records(t, b, schemas.VaultLane(0))
	if len(full) != len(empty) || len(full) < 30 {
		t.Errorf("%d records where there was much to say, %d where there was nothing", len(full), len(empty))
	}
}

func TestWrongKeys(t *testing.T) {
	b := bustest.New(t)
	first := startProcess(t, b, nKeys(t, 1))
	eventually(t, "it writes", first.set.Active)
	if err := first.queue.Append(t.Context(), []byte("entry 1")); err != nil {
		t.Fatal(err)
	}
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	other := nKeys(t, 1)
	other.keys[1] = [keySize]byte{9}
	refused := func(name string, keys *Keys) {
		t.Helper()
		before := len(bustest.Records(t, b, schemas.VaultOrders))
		if err := startProcess(t, b, keys).end(); !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
		if after := len(bustest.Records(t, b, schemas.VaultOrders)); after != before {
			t.Errorf("%s wrote %d records", name, after-before)
		}
		if err := Read(t.Context(), b, keys, schemas.VaultOrders, bus.Start{}, func(Taken) error { return nil }); !errors.Is(err, ErrKey) {
			t.Errorf("%s reads: %v", name, err)
		}
	}
	refused("another key", other)
}

// copyKey copies a key to another folder of the vault.
func copyKey(t *testing.T, from, to, name string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(from, name))
	if err == nil {
		err = os.WriteFile(filepath.Join(to, name), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// folderKeys are the keys of a folder.
func folderKeys(t *testing.T, dir string) *Keys {
	t.Helper()
	k, err := ReadKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// raced are the strangers where processes begin at once, each with a record of
// which one counts.
const raced = -1

// entriesOf are the entries of orders that count, without sweeps'. Every record
// but strangers' must count.
func entriesOf(t *testing.T, b *bus.Bus, keys *Keys, strangers int) (got []string) {
	t.Helper()
	counted := 0
	err := Read(t.Context(), b, keys, schemas.VaultOrders, bus.Start{}, func(taken Taken) error {
		counted++
		for _, e := range taken.Entries {
			if len(e) > 0 && e[0] != '*' {
				got = append(got, string(e))
			}
		}
		if taken.Missing > 0 {
			t.Errorf("%d records are missing before %d", taken.Missing, taken.Number)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if all := len(bustest.Records(t, b, schemas.VaultOrders)); strangers != raced && counted != all-strangers {
		t.Errorf("%d records count of %d with %d strangers'", counted, all, strangers)
	}
	return got
}

func (p *process) say(t *testing.T, entry string) {
	t.Helper()
	if err := p.queue.Append(t.Context(), []byte(entry)); err != nil {
		t.Fatal(err)
	}
}

// After a rotation a process whose folder lacks the new key stands by, whether
// it runs already or starts, and goes on once the key is there. It never
// writes before.
func TestNewerKey(t *testing.T) {
	b := bustest.New(t)
	full, stale, late := t.TempDir(), t.TempDir(), t.TempDir()
	if _, err := AddKey(full); err != nil {
		t.Fatal(err)
	}
	copyKey(t, full, stale, "key.1")
	copyKey(t, full, late, "key.1")
	first := startProcess(t, b, folderKeys(t, full))
	first.say(t, "entry 1")
	running := startProcess(t, b, folderKeys(t, stale))
	eventually(t, "another one has read", func() bool { return len(running.state.entries()) == 1 })
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	if err := running.stop(); err != nil { // it may write by now
		t.Fatal(err)
	}
	if _, err := AddKey(full); err != nil {
		t.Fatal(err)
	}
	second := startProcess(t, b, folderKeys(t, full))
	eventually(t, "one with the new key writes", second.set.Active)
	running = startProcess(t, b, folderKeys(t, stale))
	second.say(t, "entry 2")
	eventually(t, "one that runs knows what it lacks", func() bool { return running.set.lacks() == 2 })
	second.say(t, "entry 3")
	starts := startProcess(t, b, folderKeys(t, late))
	eventually(t, "one that starts knows what it lacks", func() bool { return starts.set.lacks() == 2 })
	if err := Read(t.Context(), b, folderKeys(t, stale), schemas.VaultOrders, bus.Start{}, func(Taken) error { return nil }); !errors.Is(err, ErrKey) {
		t.Errorf("without the new key the log reads: %v", err)
	}
	if err := second.stop(); err != nil {
		t.Fatal(err)
	}
	before := len(bustest.Records(t, b, schemas.VaultOrders))
	for range 2 * patience {
		if running.set.Active() || starts.set.Active() {
			t.Fatal("one that lacks a key writes")
		}
		time.Sleep(testBeat)
	}
	if after := len(bustest.Records(t, b, schemas.VaultOrders)); after != before {
		t.Fatalf("ones that lack a key wrote %d records", after-before)
	}
	// One after the other: of two that begin at once each may write a record that
	// doesn't count.
	copyKey(t, full, stale, "key.2")
	eventually(t, "one of them writes", running.set.Active)
	running.say(t, "entry 4")
	copyKey(t, full, late, "key.2")
	for _, p := range []*process{starts, running} {
		// What stood before the sweep at which reading began is not said again here.
		eventually(t, "both read on", func() bool { return slices.Contains(p.state.entries(), "entry 4") })
		if err := p.stop(); err != nil {
			t.Fatal(err)
		}
	}
	if got := entriesOf(t, b, folderKeys(t, full), raced); !slices.Equal(got, []string{"entry 1", "entry 2", "entry 3", "entry 4"}) {
		t.Errorf("the log says %v", got)
	}
}

// Two folders have different keys of one number: the one whose key the log's
// writers go on with does; the other stands by, says which key is whose, and goes
// on once it has theirs.
func TestAnotherKeyOfItsNumber(t *testing.T) {
	b := bustest.New(t)
	ours, others := t.TempDir(), t.TempDir()
	if _, err := AddKey(ours); err != nil {
		t.Fatal(err)
	}
	copyKey(t, ours, others, "key.1")
	first := startProcess(t, b, folderKeys(t, others))
	first.say(t, "entry 1")
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{ours, others} {
		if n, err := AddKey(dir); err != nil || n != 2 {
			t.Fatal(n, err)
		}
	}
	if folderKeys(t, ours).Print(2) == folderKeys(t, others).Print(2) {
		t.Fatal("two keys are one")
	}
	writes := startProcess(t, b, folderKeys(t, ours))
	writes.say(t, "entry 2") // sealed with the old key or the new one
	writes.say(t, "entry 3")
	keys := folderKeys(t, others)
	mine, theirs := keys.Print(2), folderKeys(t, ours).Print(2)
	var told lockedText
	stands := startProcessTelling(t, b, keys, &told)
	eventually(t, "one with another key knows", func() bool { return stands.set.lacks() == 2 })
	eventually(t, "it says which key is whose", func() bool {
		text := told.String()
		return strings.Contains(text, "key=2 fingerprint="+mine+" theirs="+theirs)
	})
	if err := writes.stop(); err != nil {
		t.Fatal(err)
	}
	before := len(bustest.Records(t, b, schemas.VaultOrders))
	for range 2 * patience {
		if stands.set.Active() {
			t.Fatal("one with another key writes")
		}
		time.Sleep(testBeat)
	}
	if after := len(bustest.Records(t, b, schemas.VaultOrders)); after != before {
		t.Fatalf("one with another key wrote %d records", after-before)
	}
	if err := os.Remove(filepath.Join(others, "key.2")); err != nil {
		t.Fatal(err)
	}
	copyKey(t, ours, others, "key.2")
	eventually(t, "it writes once it has the key", stands.set.Active)
	stands.say(t, "entry 4")
	if !slices.Contains(stands.state.entries(), "entry 3") {
		t.Errorf("what was sealed with the key that it lacked isn't known: %v", stands.state.entries())
	}
	if err := stands.stop(); err != nil {
		t.Fatal(err)
	}
	if got := entriesOf(t, b, folderKeys(t, ours), raced); !slices.Equal(got, []string{"entry 1", "entry 2", "entry 3", "entry 4"}) {
		t.Errorf("the log says %v", got)
	}
	if n := strings.Count(told.String(), "another key of a number"); n != 1 {
		t.Errorf("it is said %d times", n)
	}
}

// lockedText is a log that is read while it is written.
type lockedText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Records that claim keys that don't exist, before a vault's first start, while
// it writes and before the next start, are garbage: they stop nobody.
func TestForgedKeys(t *testing.T) {
	b := bustest.New(t)
	strangers := 0
	forge := func(topics ...string) {
		t.Helper()
		for _, key := range []uint32{1, 2, 1 << 31} {
			for _, topic := range topics {
				if err := b.Publish(t.Context(), record(topic, forged(t, key))); err != nil {
					t.Fatal(err)
				}
			}
			strangers++
		}
	}
	forge(schemas.VaultOrders)
	one := startProcess(t, b, nKeys(t, 1))
	one.say(t, "entry 1")
	forge(schemas.VaultOrders, schemas.VaultLane(0))
	one.say(t, "entry 2")
	if err := one.stop(); err != nil {
		t.Fatal(err)
	}
	for range 6 { // more than is looked at for where to start
		forge(schemas.VaultOrders, schemas.VaultLane(0))
	}
	two := startProcess(t, b, nKeys(t, 1))
	two.say(t, "entry 3")
	if n := two.set.lacks(); n != 0 {
		t.Errorf("it believes that there is a key %d", n)
	}
	if err := two.stop(); err != nil {
		t.Fatal(err)
	}
	if got := entriesOf(t, b, nKeys(t, 1), strangers); !slices.Equal(got, []string{"entry 1", "entry 2", "entry 3"}) {
		t.Errorf("the log says %v", got)
	}
}
