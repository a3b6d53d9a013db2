package deliver

import (
	"google.golang.org/protobuf/proto"

	"qstream/directory"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// scansAgain reports whether a leg was ordered to be scanned before anything
// of it is delivered, and remembers by which command. One that a policy
// redirected is routed anew: its queue needn't have a scan topic. Where there is
// no policy any more nobody can be asked.
func (p *plan) scansAgain(l *pb.Leg, v view) bool {
	number, ok := v.again(l.MessageId, l.Recipients)
	if !ok || !schemas.DueAgain(l, number) {
		return false
	}
	policy := p.decision.Scan
	p.action = toScan
	if l.GetScan().GetQueue() != "" {
		q := directory.QuestionOf(l, l.Recipients[0])
		q.Queue = ""
		policy = v.decide(q).Scan
		p.action = toReroute
	}
	if policy == "" {
		p.action = toAttempt
		return false
	}
	p.again = number
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
