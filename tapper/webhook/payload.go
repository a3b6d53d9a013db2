package webhook

import (
	"encoding/json"
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

// again is what the endpoint is told of an event that was given up, with the id
// that it had. The document may be another tenant's since, or have been
// for all: then it is that tenant's view still, or nothing.
func again(hook *directory.Webhook, e *pb.Event, owner view.Owner) *pb.Event {
	if hook.All || e == nil {
		return e
	}
	v := view.Of(e, hook.Tenant, owner)
	if v != nil && !strings.Contains(e.Id, ".") { // a view's id; operators' have dots, and count others' recipients
		v.Id = e.Id
	}
	return v
}

// message is the id and the body of what is posted. The id has no dot, which
// parts what is signed.
func message(e *pb.Event) (id string, body []byte, err error) {
	data, err := schemas.JSON(e)
	if err != nil {
		return "", nil, err
	}
	body, err = json.Marshal(struct {
		Type      string          `json:"type"`
		Timestamp string          `json:"timestamp"`
		Data      json.RawMessage `json:"data"`
	}{directory.EventWord(e.Type), time.UnixMilli(e.AtMs).UTC().Format(time.RFC3339Nano), data})
	if err != nil {
		return "", nil, fmt.Errorf("write event as JSON: %w", err)
	}
	return strings.ReplaceAll(e.Id, ".", "-"), body, nil
}
