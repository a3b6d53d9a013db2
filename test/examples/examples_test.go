// Package examples runs the consumers of docs/examples as an outside reader
// would, so that what the page promises can't rot.
package examples

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
	"qstream/test/peers"
)

const folder = "../../docs/examples/"

// within bounds a run; what is compiled first takes its time.
const within = 5 * time.Minute

// compiled writes what protoc -o makes of the schema.
func compiled(t *testing.T) string {
	t.Helper()
	set, added := &descriptorpb.FileDescriptorSet{}, map[string]bool{}
	var add func(protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		if added[f.Path()] {
			return
		}
		added[f.Path()] = true
		for i := range f.Imports().Len() {
			add(f.Imports().Get(i).FileDescriptor)
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(f))
	}
	add(pb.File_qstream_v1_event_proto)
	raw, err := proto.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "events.binpb")
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// system is a broker with events on it, one of a type of later.
func system(t *testing.T) (seed string, want []string) {
	t.Helper()
	broker := bustest.Start(t)
	b := broker.Dial(t, bus.Config{})
	for i := range 12 {
		e := &pb.Event{
			Type: pb.EventType_EVENT_TYPE_ROUTED + pb.EventType(i%3), MessageId: mail.NewID(time.Now()), Tenant: "acme", Step: uint64(i),
			Outcomes: []*pb.Outcome{{Address: "ann@acme.example"}},
		}
		if i == 11 {
			e.Type = 999
		}
		bustest.Put(t, b, bus.NewEvent(e))
		want = append(want, fmt.Sprintf("%s %s", e.MessageId, e.Tenant))
	}
	slices.Sort(want)
	return broker.Seeds[0], want
}

// run runs an example and returns its lines, sorted by their message.
func run(t *testing.T, dir, name string, args ...string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, errs.String())
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// messages are the last two words of lines: message and tenant.
func messages(t *testing.T, lines []string) []string {
	t.Helper()
	var got []string
	for _, l := range lines {
		words := strings.Fields(l)
		if len(words) != 4 {
			t.Fatalf("line %q", l)
		}
		got = append(got, words[2]+" "+words[3])
	}
	slices.Sort(got)
	return got
}

func check(t *testing.T, lines, want []string) {
	t.Helper()
	if got := messages(t, lines); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	text := strings.Join(lines, "\n")
	for _, word := range []string{"EVENT_TYPE_ROUTED", "EVENT_TYPE_DELIVERED", " 999 "} {
		if !strings.Contains(text, word) {
			t.Errorf("%s is not in\n%s", word, text)
		}
	}
}

// TestGo builds the example's own module, which knows nothing of ours.
func TestGo(t *testing.T) {
	program := filepath.Join(t.TempDir(), "events")
	run(t, folder+"go", "go", "build", "-mod=readonly", "-o", program, ".")
	seed, want := system(t)
	check(t, run(t, ".", program, "-broker", seed, "-schema", compiled(t), "-count", fmt.Sprint(len(want))), want)
}

// TestPython runs it with confluent-kafka, from a virtual environment that
// .ci/install makes.
func TestPython(t *testing.T) {
	peers.Need(t)
	python, err := filepath.Abs("../../.cache/python/bin/python")
	if err == nil {
		_, err = os.Stat(python)
	}
	if err != nil {
		t.Fatalf("no Python with confluent-kafka: .ci/install peers (%v)", err)
	}
	seed, want := system(t)
	check(t, run(t, folder+"python", python, "events.py", "--broker", seed, "--schema", compiled(t), "--count", fmt.Sprint(len(want))), want)
}

// TestKcat runs the script; it knows headers, not values.
func TestKcat(t *testing.T) {
	peers.Need(t)
	seed, want := system(t)
	lines := run(t, folder+"kcat", "sh", "events.sh", seed)
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(lines), len(want), strings.Join(lines, "\n"))
	}
	for _, w := range want {
		id, _, _ := strings.Cut(w, " ")
		i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, id+" ") })
		if i < 0 || !strings.Contains(lines[i], "tenant=acme") || !strings.Contains(lines[i], "event=") || !strings.Contains(lines[i], "id="+id) {
			t.Errorf("message %s is not told in\n%s", id, strings.Join(lines, "\n"))
		}
	}
}
