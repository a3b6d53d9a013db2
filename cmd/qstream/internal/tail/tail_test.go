package tail

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"qstream/bus"
	"qstream/directory"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

func at(r bus.Record) bus.Record {
	r.Partition, r.Offset, r.Time = 2, 7, time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	return r
}

func printed(t *testing.T, f Format, r bus.Record) string {
	t.Helper()
	var out bytes.Buffer
	if err := Print(&out, f, r); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "\n"); n != 1 {
		t.Errorf("%d lines: %q", n, out.String())
	}
	return out.String()
}

func TestText(t *testing.T) {
	r := at(bus.NewReceived(&pb.Received{
		Id: "01A", Session: &pb.Session{Helo: "evil\x1b[2J"}, Envelope: &pb.Envelope{ReversePath: "a@blue.example"},
		Content: &pb.Content{Where: &pb.Content_Inline{Inline: bytes.Repeat([]byte("x"), 3000)}, Size: 3000},
	}))
	got := printed(t, Text, r)
	for _, want := range []string{"2026-03-01 10:00:00.000Z qstream.received.v1/2@7 id=01A", `"reverse_path":"a@blue.example"`, "(inline: 3000 bytes)"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
	if strings.ContainsAny(got, "\x1b\x07") {
		t.Errorf("not printable: %q", got)
	}
}

func TestEveryTopicsRecordsArePrinted(t *testing.T) {
	for _, topic := range append(schemas.FixedTopics(), schemas.QueueTopics("acme", 2, "default", 3)...) {
		for _, value := range [][]byte{nil, []byte("\xff\x00 garbage")} {
			r := at(bus.Record{Topic: topic.Name, Key: []byte("\xffkey"), Value: value, Headers: []bus.Header{{Key: "id", Value: []byte("\x1bid")}}})
			printed(t, Text, r)
			var out recordJSON
			if err := json.Unmarshal([]byte(printed(t, JSON, r)), &out); err != nil {
				t.Errorf("%s: %v", topic.Name, err)
			}
			if (out.Error != "") != (value != nil) || (out.Value != nil) != (value == nil) {
				t.Errorf("%s: %+v", topic.Name, out)
			}
		}
	}
}

func TestMarkerAmongLegs(t *testing.T) {
	r := at(bus.Record{Topic: schemas.Parked, Headers: []bus.Header{{Key: bus.HeaderType, Value: []byte(schemas.TypeMarker)}}})
	if got := printed(t, Text, r); !strings.Contains(got, " Marker ") {
		t.Error(got)
	}
}

func TestRaw(t *testing.T) {
	if got := printed(t, Raw, bus.Record{Value: []byte("\xff value")}); got != "\xff value\n" {
		t.Errorf("%q", got)
	}
}

func TestTopics(t *testing.T) {
	s, err := directory.Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"events": schemas.Events, schemas.Events: schemas.Events, "queue.acme.2": "qstream.queue.acme.2.v1",
		"delay.1m": "qstream.delay.1m.v1", "content.default": "qstream.content.default.v1",
	} {
		if got, err := Topics(name, s); err != nil || len(got) != 1 || got[0] != want {
			t.Errorf("%s: %v %v", name, got, err)
		}
	}
	if _, err := Topics("nothing", s); err == nil || !strings.Contains(err.Error(), "queue.default") {
		t.Errorf("%v", err)
	}
	all, err := Topics("all", s)
	if err != nil || len(all) < 10 {
		t.Errorf("%v %v", all, err)
	}
	for _, topic := range all {
		if topic == schemas.Journal || topic == schemas.Hold {
			t.Errorf("%s among all", topic)
		}
	}
}
