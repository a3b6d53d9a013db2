package replay

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/control"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// What jobs are called in the audit.
const (
	Action     = "replay"      // messages are delivered again
	ActionScan = "scan replay" // engines see them again
)

// ErrNoJob says that the audit knows no job of an id.
var ErrNoJob = errors.New("no such job")

// Job delivers selected messages again, or has them scanned again. What is in JSON is kept in the audit,
// by which a job is found and goes on.
type Job struct {
	ID     string `json:"-"` // a ULID: mail.NewID
	Action string `json:"-"` // default: Action
	Actor  string `json:"-"`
	Reason string `json:"-"`

	Selection Selection `json:"selection"`
	// Whole delivers to all recipients of each message of which one is selected.
	Whole bool `json:"whole,omitempty"`
	// Route is the name of the route that the mail goes by, whatever matches its
	// recipients; empty: as today's directory routes it.
	Route string `json:"route,omitempty"`
	// Host is who says so in the Received field.
	Host string `json:"host,omitempty"`
	// Patience is for how long engines are waited for that give no verdict.
	Patience time.Duration `json:"patience,omitempty"`

	Rate    float64                             `json:"-"` // messages a second; 0: as fast as it goes
	Now     func() time.Time                    `json:"-"` // default: time.Now
	Told    func(Progress)                      `json:"-"` // now and then; may be nil
	Offered func(Offering)                      `json:"-"` // likewise, of a job that has mail scanned again
	Each    func(old *Message, id string) error `json:"-"` // after a message is durable; may be nil
}

// Progress is how far a job is.
type Progress struct {
	Selected   int // messages
	Recipients int
	Again      int // messages delivered again by this run
	Before     int // that the job had delivered again earlier
	Unreadable int // whose content isn't there any more, or isn't what was stored: passed over
}

// Resume is the job as it was begun.
func (h *History) Resume(ctx context.Context, id string) (*Job, error) {
	made, ok := mail.IDTime(id)
	if !ok {
		return nil, fmt.Errorf("%s: not a job's id", mail.Printable(id))
	}
	var job *Job
	var wrong error
	err := control.Acts(ctx, h.Bus, bus.Start{Since: made.Add(-clocks)}, func(a *pb.Act) {
		if a.Job != id || a.Action != Action && a.Action != ActionScan || a.Ended || job != nil {
			return
		}
		job = &Job{ID: id, Reason: a.Reason, Action: a.Action}
		wrong = json.Unmarshal([]byte(a.Detail), job)
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the audit: %w", err)
	case job == nil:
		return nil, fmt.Errorf("%w: %s", ErrNoJob, id)
	case wrong != nil:
		return nil, fmt.Errorf("job %s: %w", id, wrong)
	}
	return job, nil
}

// clocks is how far those of edges, verbs and brokers may be apart.
const clocks = 10 * time.Minute

// fresh is how long reinject surely keeps what it took. The embedded broker trims
// what is routed after a day; its events stay.
const fresh = 12 * time.Hour

// Redeliver puts the selected messages in again and returns how far it came. A
// job that has no end in time accepts nothing after its begin.
func (h *History) Redeliver(ctx context.Context, j *Job) (Progress, error) {
	r := &redelivery{h: h, job: j}
	made, err := h.begin(ctx, j)
	if err != nil {
		return r.Progress, err
	}
	err = r.run(ctx, made)
	return r.Progress, h.end(ctx, j, r.Progress, err)
}

// begin checks a job and tells the audit of it; made is when it was made.
func (h *History) begin(ctx context.Context, j *Job) (made time.Time, err error) {
	made, ok := mail.IDTime(j.ID)
	if !ok {
		return made, fmt.Errorf("%s: not a job's id", mail.Printable(j.ID))
	}
	if j.Now == nil {
		j.Now = time.Now
	}
	if j.Selection.Until.IsZero() {
		j.Selection.Until = j.Now()
	}
	if _, err := j.Selection.complete(); err != nil {
		return made, err
	}
	return made, h.tell(ctx, j, j, false, nil)
}

// end tells the audit what came of a job, also of one that was called off, and
// returns how it failed.
func (h *History) end(ctx context.Context, j *Job, came any, err error) error {
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return errors.Join(err, h.tell(end, j, came, true, err))
}

// tell writes the begin, or the end, of a job to the audit.
func (h *History) tell(ctx context.Context, j *Job, detail any, ended bool, failed error) error {
	text, err := json.Marshal(detail)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	a := &pb.Act{
		AtMs: j.Now().UnixMilli(), Actor: j.Actor, Action: cmp.Or(j.Action, Action), Job: j.ID, Reason: j.Reason,
		Detail: string(text), Ended: ended,
	}
	if failed != nil {
		a.Error = failed.Error()
	}
	return control.Audit(ctx, h.Bus, a)
}

// redelivery is one run of a job.
type redelivery struct {
	Progress
	h    *History
	job  *Job
	done map[string]bool // ids that the job made
	kept map[string]time.Duration
	out  putter
}

func (r *redelivery) run(ctx context.Context, made time.Time) error {
	r.done, r.kept = map[string]bool{}, map[string]time.Duration{}
	r.out = putter{bus: r.h.Bus, rate: r.job.Rate, durable: func(n int) {
		r.Again += n
		if r.job.Told != nil {
			r.job.Told(r.Progress)
		}
	}}
	err := r.h.Bus.Read(ctx, []string{schemas.Reinject}, bus.Start{Since: made.Add(-clocks)}, func(rec bus.Record) error {
		var p pb.Reinject
		if proto.Unmarshal(schemas.WithoutInline(rec.Topic, rec.Value), &p) == nil {
			r.made(made, p.Origin, p.Id)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read what is put in again: %w", err)
	}
	if r.job.Now().Sub(made) > fresh {
		err := r.h.Bus.Read(ctx, []string{schemas.Events}, bus.Start{Since: made.Add(-clocks), Pace: r.h.Pace}, func(rec bus.Record) error {
			var e pb.Event
			if proto.Unmarshal(rec.Value, &e) == nil {
				r.made(made, e.Origin, e.MessageId)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("read what became of what is put in again: %w", err)
		}
	}
	if err := r.h.Select(ctx, r.job.Selection, func(m *Message) error { return r.take(ctx, made, m) }); err != nil {
		return errors.Join(err, r.out.flush(context.WithoutCancel(ctx)))
	}
	return r.out.flush(ctx)
}

// made remembers an id that this job, or another of the same moment, made.
func (r *redelivery) made(at time.Time, origin pb.Origin, id string) {
	if t, ok := mail.IDTime(id); ok && origin == pb.Origin_ORIGIN_REPLAY && t.Equal(at) {
		r.done[id] = true
	}
}

func (r *redelivery) take(ctx context.Context, made time.Time, m *Message) error {
	id := mail.DerivedID(made, r.job.ID+"\x00"+m.ID())
	r.Selected++
	r.Recipients += len(m.Recipients)
	if r.done[id] {
		r.Before++
		return nil
	}
	r.done[id] = true
	if err := r.out.pace(ctx); err != nil {
		return err
	}
	record, err := r.record(ctx, id, m)
	if errors.Is(err, bus.ErrContent) { // one that is lost must not keep the others back
		r.Unreadable++
		return nil
	}
	if err != nil {
		return fmt.Errorf("message %s: %w", m.ID(), err)
	}
	return r.out.put(ctx, record, func() error {
		if r.job.Each == nil {
			return nil
		}
		return r.job.Each(m, id)
	})
}

// record is the new message: the old one's content, envelope and header, with
// a trace line that tells where it comes from.
func (r *redelivery) record(ctx context.Context, id string, m *Message) (bus.Record, error) {
	old := m.Received
	content, err := r.content(ctx, m)
	if err != nil {
		return bus.Record{}, err
	}
	envelope := proto.Clone(old.Envelope).(*pb.Envelope)
	if !r.job.Whole {
		envelope.Recipients = nil
		for _, to := range m.Recipients {
			envelope.Recipients = append(envelope.Recipients, proto.Clone(to).(*pb.Recipient))
		}
	}
	for _, to := range envelope.Recipients {
		to.Held = false // whoever replays it wants it to go
	}
	line := mail.Received{
		HELO: "history", ClientIP: old.GetSession().GetClientIp(), By: r.job.Host, Protocol: "replay-of-" + m.ID(), ID: id, At: r.job.Now(),
	}
	return bus.NewReinject(&pb.Reinject{
		Id: id, Origin: pb.Origin_ORIGIN_REPLAY, ParentId: m.ID(),
		Envelope: envelope, Content: content, Prepend: append([]byte(line.String()), old.Prepend...),
		Tenant: old.GetSession().GetTenant(), Directory: old.Directory,
		HeaderMessageId: old.HeaderMessageId, Session: old.Session, ByRoute: r.job.Route,
	}), nil
}

// content is the old one's where it stays long enough, or a copy.
func (r *redelivery) content(ctx context.Context, m *Message) (*pb.Content, error) {
	if m.Content.Inline {
		data, err := m.inline()
		if err != nil {
			return nil, err
		}
		return &pb.Content{Where: &pb.Content_Inline{Inline: data}, Size: m.Content.Size, Sha256: m.Content.Sha256}, nil
	}
	kept, ok := r.kept[m.Content.Topic]
	if !ok {
		var err error
		if kept, err = r.h.Bus.Retention(ctx, m.Content.Topic); err != nil {
			return nil, err
		}
		r.kept[m.Content.Topic] = kept
	}
	// The new message's lifetime begins now. Content of the first half of its
	// time is looked after by delay, as that of any waiting mail.
	ref := m.Content
	if kept >= 0 && !r.job.Now().Before(time.UnixMilli(ref.StoredMs).Add(kept/2)) {
		var err error
		if ref, err = r.h.Bus.Keep(ctx, ref); err != nil {
			return nil, err
		}
	} else if err := m.there(ctx); err != nil {
		return nil, err
	}
	return &pb.Content{Where: &pb.Content_Ref{Ref: ref}, Size: ref.Size, Sha256: ref.Sha256}, nil
}
