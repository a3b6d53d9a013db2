package bus

import (
	"errors"
	"fmt"
	"strconv"

	"google.golang.org/protobuf/proto"

	pb "qstream/schemas/qstream/v1"
)

// ReadLeg reads the leg that a record carries. Its errors wrap ErrPoison: what
// can't be read, and a leg without message, queue, recipients or content, which
// no stage can bring on.
func ReadLeg(r Record) (*pb.Leg, error) {
	var l pb.Leg
	err := proto.Unmarshal(r.Value, &l)
	switch {
	case err != nil:
	case l.MessageId == "":
		err = errors.New("no message id")
	case l.Queue == "":
		err = errors.New("no queue")
	case len(l.Recipients) == 0:
		err = errors.New("no recipients")
	case l.Content == nil:
		err = errors.New("no content")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: leg on %s: %w", ErrPoison, r.Topic, err)
	}
	return &l, nil
}

// LegIdentity is the same for the legs of two records only if one repeats the
// other: message id, number and step.
func LegIdentity(l *pb.Leg) string {
	return l.MessageId + " " + strconv.FormatUint(uint64(l.Number), 10) + " " + strconv.FormatUint(l.Step, 10)
}
