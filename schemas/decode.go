package schemas

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	pb "qstream/schemas/qstream/v1"
)

// TypeMarker is the record header "type" of a Marker among legs.
const TypeMarker = "marker"

// Decode reads a record's value. Topic says what it is; typ is the record
// header "type", which tells a Marker from the legs beside it. Fields that
// this version doesn't know are kept.
func Decode(topic, typ string, value []byte) (proto.Message, error) {
	m, err := empty(topic, typ)
	if err != nil {
		return nil, err
	}
	if err := proto.Unmarshal(value, m); err != nil {
		return nil, fmt.Errorf("decode record of %s: %w", topic, err)
	}
	return m, nil
}

// empty is a message of the kind that a topic holds.
func empty(topic, typ string) (proto.Message, error) {
	if typ == TypeMarker {
		return &pb.Marker{}, nil
	}
	switch topic {
	case Received:
		return &pb.Received{}, nil
	case Reinject:
		return &pb.Reinject{}, nil
	case Parked, Quarantine:
		return &pb.Leg{}, nil
	case Hold:
		return &pb.Chunk{}, nil
	case Journal:
		return &pb.Journaled{}, nil
	case Events:
		return &pb.Event{}, nil
	case Directory:
		return &pb.Apply{}, nil
	case Control:
		return &pb.Command{}, nil
	case Greylist:
		return &pb.Greylisted{}, nil
	case Audit:
		return &pb.Act{}, nil
	case Checkpoint:
		return &pb.Checkpoint{}, nil
	case Idempotency:
		return &pb.Submission{}, nil
	case Rescan:
		return &pb.Rescan{}, nil
	case Usage:
		return &pb.Usage{}, nil
	case Archives:
		return &pb.ArchiveState{}, nil
	case Deadletter:
		return &pb.DeadletterRecord{}, nil
	case Webhook:
		return &pb.WebhookRecord{}, nil
	}
	if strings.HasPrefix(topic, "qstream.events.") {
		return &pb.Event{}, nil
	}
	for _, legs := range []string{"qstream.queue.", "qstream.scan.", "qstream.delay."} {
		if strings.HasPrefix(topic, legs) {
			return &pb.Leg{}, nil
		}
	}
	if strings.HasPrefix(topic, "qstream.tap.") {
		return &pb.Tapped{}, nil
	}
	if strings.HasPrefix(topic, "qstream.content.") {
		return &pb.Chunk{}, nil
	}
	if strings.HasPrefix(topic, "qstream.vault.") {
		return &pb.Sealed{}, nil
	}
	return nil, fmt.Errorf("no record of topic %s is known", topic)
}

// JSON is a record's value as one line of JSON, fields by their protobuf
// names, the same for the same value.
func JSON(m proto.Message) ([]byte, error) {
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("write %s as JSON: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	// The library varies its blanks from build to build.
	var line bytes.Buffer
	if err := json.Compact(&line, raw); err != nil {
		return nil, fmt.Errorf("write %s as JSON: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return line.Bytes(), nil
}
