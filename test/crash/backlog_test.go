package crash

import (
	"context"
	"fmt"
	"testing"
	"time"

	"qstream/bus"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
	"qstream/test/rig"
)

// backlogID is what the mails of a backlog have for an identity.
const backlogID = "backlog"

// backlog makes legs as they wait, without the mail that they come from: they
// share one small content on the hold topic.
type backlog struct {
	t       *testing.T
	b       *bus.Bus
	content *pb.ContentRef
}

func newBacklog(t *testing.T, b *bus.Bus) *backlog {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), rig.Patience)
	defer cancel()
	blob := b.Create(ctx, mail.NewID(time.Now()), schemas.HoldClass)
	_, err := blob.Write([]byte("From: <a@client.example>\r\nSubject: backlog\r\n" + rig.IDHeader + ": " + backlogID + "\r\n\r\nwaits\r\n"))
	must(t, err)
	c, err := blob.Commit()
	must(t, err)
	if c.GetRef() == nil {
		t.Fatal("content of the backlog is inline")
	}
	return &backlog{t: t, b: b, content: c.GetRef()}
}

// leg is one of the tenant beta for host n.
func (k *backlog) leg(n int, route, port string) *pb.Leg {
	return &pb.Leg{
		MessageId: mail.NewID(time.Now()), Step: 2, Attempt: 1, Tenant: "beta", Queue: "beta", Generation: 1,
		Destination: fmt.Sprintf("mx%d.sink.example:%s", n%hosts, port), Route: route, ReversePath: "load@client.example",
		Recipients: []*pb.Recipient{{Address: fmt.Sprintf("waits@d%d.beta.example", n%hosts)}},
		Content:    k.content, BornMs: time.Now().UnixMilli(), Reason: pb.Reason_REASON_DEFERRED,
		Last: &pb.Status{Code: 451, Enhanced: "4.2.0", Text: "try again later, the mailbox is busy"},
	}
}

// put publishes n records, a thousand at a time.
func (k *backlog) put(n int, record func(i int) bus.Record) {
	k.t.Helper()
	began := time.Now()
	for done := 0; done < n; {
		batch := make([]*bus.Record, 0, 1000)
		for len(batch) < cap(batch) && done < n {
			r := record(done)
			batch = append(batch, &r)
			done++
		}
		ctx, cancel := context.WithTimeout(context.Background(), rig.Patience)
		err := k.b.Publish(ctx, batch...)
		cancel()
		must(k.t, err)
	}
	k.t.Logf("%d legs put in %v", n, time.Since(began).Round(time.Millisecond))
}
