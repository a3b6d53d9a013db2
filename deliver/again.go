package deliver

import (
	"google.golang.org/protobuf/proto"

	"qstream/directory"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// scansAgain reports whether a leg was ordered to be scanned before anything
// of it is delivered, and remembers by which command.
func (p *plan) scansAgain(l *pb.Leg, v view) bool {
	number, ok := v.again(l.MessageId, l.Recipients)
	if !ok || !schemas.DueAgain(l, number) {
		return false
	}
	policy, anew := directory.OrderedScan(l, p.decision, v.decide)
	if policy == "" {
		return false
	}
	if p.action, p.again = toScan, number; anew {
		p.action = toReroute
	}
	return true
}

// marked is the leg as it goes to be scanned by order.
func (p plan) marked(l *pb.Leg) *pb.Leg {
	if p.again == 0 {
		return l
	}
	l = proto.CloneOf(l)
	schemas.Again(l, p.again)
	return l
}

// why is what the trace says of a leg's way back.
func (p plan) why() string {
	if p.again > 0 {
		return schemas.FoundBad
	}
	return ""
}
