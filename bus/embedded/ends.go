package embedded

import (
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// endRoom is what the disk must have left for the end of a transaction: far
// more than its markers and the progress it records take, so that others who
// fill the disk meanwhile don't get there first.
const endRoom = 4 << 20

// guardEnds puts the end of transactions off while the disk is so full that
// a part of it might be refused. The broker writes one by parts, markers into
// each topic and then the progress, and goes on when one of them is refused:
// outputs would count, and the next start would forget what they were made
// of, and make them again. Clients are told to ask again; nothing is lost,
// and mail goes on once there is room.
func guardEnds(c *kfake.Cluster, free func() (int64, error), log *slog.Logger) {
	var told time.Time
	scant := func() bool {
		n, err := free()
		if err == nil && n >= endRoom {
			return false
		}
		if time.Since(told) > 10*time.Second {
			told = time.Now()
			log.Error("mail stands still until the disk has room", "free", n, "needed", endRoom, "err", err)
		}
		return true
	}
	again := kerr.ConcurrentTransactions.Code
	c.ControlKey(int16(kmsg.EndTxn), func(r kmsg.Request) (kmsg.Response, error, bool) {
		req, ok := r.(*kmsg.EndTxnRequest)
		if !ok || !scant() {
			return nil, nil, false
		}
		c.KeepControl()
		resp := req.ResponseKind().(*kmsg.EndTxnResponse)
		resp.ErrorCode = again
		return resp, nil, true
	})
	// It ends what the id left open.
	c.ControlKey(int16(kmsg.InitProducerID), func(r kmsg.Request) (kmsg.Response, error, bool) {
		req, ok := r.(*kmsg.InitProducerIDRequest)
		if !ok || req.TransactionalID == nil || !scant() {
			return nil, nil, false
		}
		c.KeepControl()
		resp := req.ResponseKind().(*kmsg.InitProducerIDResponse)
		resp.ErrorCode = again
		return resp, nil, true
	})
}
