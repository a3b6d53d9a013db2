package schemas

import (
	"bytes"
	"maps"

	"google.golang.org/protobuf/proto"

	pb "qstream/schemas/qstream/v1"
)

// samples are what golden records are made of.
func samples() map[string]proto.Message {
	all := mailSamples()
	maps.Copy(all, custodySamples())
	return all
}

func custodySamples() map[string]proto.Message {
	return map[string]proto.Message{
		"checkpoint": &pb.Checkpoint{
			Body: []byte("\x08\x01\x18\x02"), Signature: bytes.Repeat([]byte{7}, 64), Key: bytes.Repeat([]byte{9}, 32),
		},
	}
}
