package httpd

import (
	"encoding/json"
	"errors"
	"net/http"

	"qstream/ingest/idempotency"
	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
)

// once is a request with an idempotency key. Its key is claimed when the first
// message has come in and all that is left is to publish it: so a claim is
// short, however slow the client is.
type once struct {
	x           *exchange
	key         idempotency.Key
	former      *idempotency.Former
	ids         []string
	fingerprint func() []byte

	claim     *idempotency.Claim // nil: not yet
	published map[string]*pb.Received
	stop      error // why nothing is published any more
}

// errPublished ends a message that is there already.
var errPublished = errors.New("published before")

// begin is called when a message is complete, and says whether to publish it.
func (o *once) begin(id string) error {
	if o == nil {
		return nil
	}
	if o.stop != nil {
		return o.stop
	}
	if o.claim == nil {
		if o.stop = o.begun(); o.stop != nil {
			return o.stop
		}
	}
	if o.published[id] != nil {
		return errPublished
	}
	if !o.claim.Holds() {
		return refuse(http.StatusServiceUnavailable, "this took too long, try again")
	}
	o.x.h.deps.Failpoint("ingest.http.claimed")
	return nil
}

func (o *once) begun() error {
	print := o.fingerprint()
	if !o.former.Same(print) {
		return misused()
	}
	var err error
	if o.claim, err = o.x.h.deps.Keys.Claim(o.x.who.ctx, o.key, o.former, o.ids, print); err != nil {
		if errors.Is(err, idempotency.ErrTaken) {
			return taken(0)
		}
		o.x.h.deps.Log.Warn("idempotency key not claimed", "stage", "ingest", "err", err)
		return refuse(http.StatusServiceUnavailable, "the idempotency key can't be kept at the moment, try again later")
	}
	if o.published, err = o.claim.Published(o.x.who.ctx); err != nil {
		o.x.h.deps.Log.Warn("messages under an idempotency key not looked for", "stage", "ingest", "err", err)
		return refuse(http.StatusServiceUnavailable, "an earlier try can't be looked for at the moment, try again later")
	}
	return nil
}

func misused() *problem {
	return refuse(http.StatusUnprocessableEntity, "the idempotency key was used for another request")
}

// name chooses the ids of n messages: the former ones, if there were any.
func (o *once) name(n int, fingerprint func() []byte, fresh func() string) []string {
	var ids []string
	if o != nil {
		if former, _ := o.former.Unfinished(); len(former) == n {
			ids = former
		}
	}
	for len(ids) < n {
		ids = append(ids, fresh())
	}
	if o != nil {
		o.ids, o.fingerprint = ids, fingerprint
	}
	return ids
}

// replay is the answer that was given before.
func (o *once) replay() (answer, bool) {
	if o == nil {
		return answer{}, false
	}
	status, body, done := o.former.Done()
	return answer{status: status, body: body, replayed: true}, done
}

// kept are the results of an earlier try that left something open.
func (o *once) kept() []result {
	if o == nil {
		return nil
	}
	_, text := o.former.Unfinished()
	var b batch
	if len(text) == 0 || json.Unmarshal(text, &b) != nil {
		return nil
	}
	return b.Messages
}

// settle notes what the request came to. Where it is in doubt whether
// something was stored the claim stays until its lease ends. A key that can't
// be settled changes no answer: the messages are safe, and whoever comes again
// finds them.
func (o *once) settle(all []result, a answer) {
	if o == nil || o.claim == nil || o.stop != nil {
		return
	}
	final := true
	for _, r := range all {
		if r.doubt {
			return
		}
		final = final && r.final()
	}
	var err error
	if final {
		err = o.claim.Done(o.x.who.ctx, a.status, a.body)
	} else {
		err = o.claim.Open(o.x.who.ctx, encode(0, batch{all}).body)
	}
	if err != nil {
		o.x.h.deps.Log.Warn("idempotency key not settled", "stage", "ingest", "err", err)
	}
	o.x.h.deps.Failpoint("ingest.http.settled")
}

// found is the result of a message that an earlier try has published, for the
// recipients of this one.
func found(m *pb.Received, asked []recipient) result {
	taken := map[string]bool{}
	for _, r := range m.GetEnvelope().GetRecipients() {
		taken[r.Address] = true
	}
	r := result{ID: m.Id, Status: http.StatusAccepted, Reply: stored}
	for _, one := range asked {
		f := fate{one.Address, accepted}
		if a, err := mail.ParseAddress(one.Address, true); err != nil || !taken[a.String()] {
			f.reply = reply{450, "4.3.0", "was not taken when the message was; send to it in another message"}
		}
		r.Recipients = append(r.Recipients, f)
	}
	return r
}
