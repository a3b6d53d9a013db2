package roster

import (
	"net/netip"

	"qstream/engine"
	pb "qstream/schemas/qstream/v1"
)

// Facts are what an engine is told of the envelope and the session of a message
// of size octets, with the lines before its content.
func Facts(id string, s *pb.Session, reversePath string, to []*pb.Recipient, size int64) *engine.Facts {
	f := &engine.Facts{
		MessageID: id, ClientName: s.GetClientName(), HELO: s.GetHelo(), User: s.GetAuthUser(), ReversePath: reversePath, Size: size,
	}
	f.Client, _ = netip.ParseAddr(s.GetClientIp())
	for _, r := range to {
		f.Recipients = append(f.Recipients, r.Address)
	}
	return f
}
