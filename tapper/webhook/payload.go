package webhook

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/directory"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
	"qstream/tapper/view"
)

// TestType is the type of what `webhook test` posts.
const TestType = "test"

// Chosen is what a webhook's endpoint is told of an event; nil: nothing.
func Chosen(hook *directory.Webhook, e *pb.Event, owner view.Owner) *pb.Event {
	if len(hook.Events) > 0 && !hook.Events[e.Type] || hook.Queue != "" && e.Queue != hook.Queue {
		return nil
	}
	v := e
	if !hook.All {
		if v = view.Of(e, hook.Tenant, owner); v == nil {
			return nil
		}
	}
	if len(hook.Recipients) == 0 {
		return v
	}
	var wanted []*pb.Outcome
	for _, o := range v.Outcomes {
		if hook.Wants(o.Address) {
			wanted = append(wanted, o)
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	if hook.All { // a view is ours already
		v = proto.CloneOf(e)
	}
	v.Outcomes = wanted
	return v
}

// errOthers is an event that was given up while the webhook was somebody else's.
var errOthers = errors.New("what is to be posted again is not an event of the webhook's tenant")

// again is what the endpoint is told of an event that was given up: what it
// would have been told then, less what isn't its tenant's by now. A webhook may
// have become another tenant's, or a tenant's from one of operators.
func again(hook *directory.Webhook, e *pb.Event, owner view.Owner) (*pb.Event, error) {
	if hook.All || e == nil {
		return e, nil
	}
	v := view.Of(e, hook.Tenant, owner)
	if v == nil {
		return nil, errOthers
	}
	if !strings.Contains(e.Id, ".") { // a view's already: who had it knows it by that
		v.Id = e.Id
	}
	return v, nil
}

// message is the id and the body of what is posted. The id has no dot, which
// parts what is signed.
func message(e *pb.Event) (id string, body []byte, err error) {
	data, err := schemas.JSON(e)
	if err != nil {
		return "", nil, err
	}
	at := time.UnixMilli(e.AtMs).UTC().Format(time.RFC3339Nano)
	// Word and time need no escapes, and data is JSON already.
	body = fmt.Appendf(make([]byte, 0, len(data)+96), `{"type":"%s","timestamp":"%s","data":%s}`, directory.EventWord(e.Type), at, data)
	return strings.ReplaceAll(e.Id, ".", "-"), body, nil
}
