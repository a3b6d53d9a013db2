package replay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/control"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// Results are what came of a job's offers so far, counted in legs.
type Results struct {
	Job         string `json:"job"`
	Offered     int    `json:"offered"`
	Clean       int    `json:"clean"`
	Delivered   int    `json:"bad_delivered"`  // found bad, and had been delivered
	Waiting     int    `json:"bad_waiting"`    // found bad while they waited: scanned again before they are delivered
	Quarantined int    `json:"now_quarantine"` // of those, in quarantine by now
	Escaped     int    `json:"now_delivered"`  // of those, delivered: their attempt had begun
	Told        int    `json:"told_before"`    // of all bad ones, by an earlier job
	Unscannable int    `json:"unscannable"`
	Unwanted    int    `json:"unwanted"`    // no policy asks for it any more
	NotScanned  int    `json:"not_scanned"` // given up: no engine gave a verdict in time
	Left        int    `json:"left"`        // not answered yet
	Again       int    `json:"retried"`     // offers that were put off, each time counted
}

// Finding is one leg that was found bad, or not scanned.
type Finding struct {
	MessageID  string   `json:"message_id"`
	Leg        uint32   `json:"leg"`
	Tenant     string   `json:"tenant"`
	Queue      string   `json:"queue"`
	Recipients []string `json:"recipients"`
	Waiting    bool     `json:"waiting"` // it waited when it was found
	Outcome    string   `json:"outcome"`
	Finding    string   `json:"finding,omitempty"`
	Action     string   `json:"action,omitempty"` // by the policy of today
	Text       string   `json:"text,omitempty"`
	Told       bool     `json:"told_before,omitempty"`

	numbers []uint32
}

// Account counts what came of a job's offers. Safe for concurrent use.
type Account struct {
	mu       sync.Mutex
	results  Results
	findings []Finding
	ended    map[string]bool // by offer; false: offered
}

// NewAccount makes one of a job.
func NewAccount(job string) *Account {
	return &Account{results: Results{Job: job}, ended: map[string]bool{}}
}

// Results are those so far.
func (a *Account) Results() Results {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.results
	r.Left = 0
	for _, ended := range a.ended {
		if !ended {
			r.Left++
		}
	}
	return r
}

// Findings are what was found bad, could not be looked into, or was not
// scanned, in no order that means anything.
func (a *Account) Findings() []Finding {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.findings)
}

// take counts a record of the rescan topic.
func (a *Account) take(r bus.Record) error {
	var p pb.Rescan
	if proto.Unmarshal(r.Value, &p) != nil || p.Job != a.results.Job {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	key := offerKey(&p)
	ended, known := a.ended[key]
	if !known {
		a.results.Offered++
		a.ended[key] = false
	}
	switch {
	case p.Result == nil:
		if p.GetLeg().GetScan().GetWaits() > 0 {
			a.results.Again++
		}
	case !ended: // a repeated one counts once
		a.ended[key] = true
		a.count(&p)
	}
	return nil
}

func (a *Account) count(p *pb.Rescan) {
	r := &a.results
	switch p.Result.Outcome {
	case schemas.OfferClean:
		r.Clean++
		return
	case schemas.OfferUnwanted:
		r.Unwanted++
		return
	case schemas.OfferBad:
		if p.Waiting {
			r.Waiting++
		} else {
			r.Delivered++
		}
		if p.Result.Told {
			r.Told++
		}
	case schemas.OfferUnscannable:
		r.Unscannable++
	default: // given up, or a word of a later version
		r.NotScanned++
	}
	f := Finding{
		MessageID: p.Leg.GetMessageId(), Leg: p.Leg.GetNumber(), Tenant: p.Leg.GetTenant(), Queue: p.Leg.GetQueue(), Recipients: []string{}, Waiting: p.Waiting,
		Outcome: p.Result.Outcome, Finding: p.Result.Finding, Action: p.Result.Action, Text: p.Result.Text, Told: p.Result.Told,
	}
	for _, to := range p.Leg.GetRecipients() {
		f.Recipients = append(f.Recipients, to.Address)
		f.numbers = append(f.numbers, to.Number)
	}
	a.findings = append(a.findings, f)
}

// since is where the records of a job begin.
func since(job string) (bus.Start, error) {
	made, ok := mail.IDTime(job)
	if !ok {
		return bus.Start{}, fmt.Errorf("%s: not a job's id", mail.Printable(job))
	}
	return bus.Start{Since: made.Add(-clocks)}, nil
}

// Await counts until all that is offered is answered, or ctx ends; offered is
// how many offers there are. Told is called now and then.
func (h *History) Await(ctx context.Context, a *Account, offered int, told func(Results)) error {
	start, err := since(a.results.Job)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- h.Bus.Follow([]string{schemas.Rescan}, start, a.take).Run(ctx) }()
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case err := <-done:
			return errors.Join(err, ctx.Err())
		case <-look.C:
		}
		r := a.Results()
		told(r)
		if r.Offered >= offered && r.Left == 0 {
			cancel()
			return <-done
		}
	}
}

// Count is what came of a job's offers by now.
func (h *History) Count(ctx context.Context, a *Account) error {
	start, err := since(a.results.Job)
	if err != nil {
		return err
	}
	return h.Bus.Read(ctx, []string{schemas.Rescan}, start, a.take)
}

// Fates adds to the results what has become of mail that waited when it was
// found bad, as events tell by now.
func (h *History) Fates(ctx context.Context, a *Account) error {
	start, err := since(a.results.Job)
	if err != nil {
		return err
	}
	last := map[string]string{} // by message and recipient
	for _, f := range a.Findings() {
		if f.Waiting && f.Outcome == schemas.OfferBad {
			for _, n := range f.numbers {
				last[fmt.Sprint(f.MessageID, n)] = Waiting
			}
		}
	}
	if len(last) == 0 {
		return nil
	}
	err = h.Bus.Read(ctx, []string{schemas.Events}, start, func(r bus.Record) error {
		var e pb.Event
		if proto.Unmarshal(r.Value, &e) != nil || beside(&e) {
			return nil
		}
		for _, o := range e.Outcomes {
			key := fmt.Sprint(e.MessageId, o.Number)
			switch before, ok := last[key]; {
			case !ok || before == Delivered:
			case e.Type == pb.EventType_EVENT_TYPE_QUARANTINED:
				last[key] = "quarantine"
			default:
				last[key] = ends[e.Type]
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.results.Quarantined, a.results.Escaped = 0, 0
	for _, f := range a.findings {
		if !f.Waiting || f.Outcome != schemas.OfferBad || len(f.numbers) == 0 {
			continue
		}
		switch last[fmt.Sprint(f.MessageID, f.numbers[0])] {
		case "quarantine":
			a.results.Quarantined++
		case Delivered:
			a.results.Escaped++
		}
	}
	return nil
}

// Conclude tells the audit what came of a job in the end.
func (h *History) Conclude(ctx context.Context, j *Job, r Results) error {
	return h.tell(ctx, j, r, true, nil)
}

// Concluded is what the audit tells of a job whose offers the topic has no
// more.
func (h *History) Concluded(ctx context.Context, job string) (r Results, ok bool, err error) {
	start, err := since(job)
	if err != nil {
		return r, false, err
	}
	err = control.Acts(ctx, h.Bus, start, func(a *pb.Act) {
		var told Results
		if a.Job == job && a.Action == ActionScan && a.Ended && json.Unmarshal([]byte(a.Detail), &told) == nil && told.Job == job {
			r, ok = told, true
		}
	})
	return r, ok, err
}
