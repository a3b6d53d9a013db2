package delay

import (
	"context"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/directory"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// grace is how long after its end of life a leg may still lie in its queue.
// With the time between two looks, Config.Watch, an alarm comes within 60 s.
const grace = 25 * time.Second

// watch looks for legs past their lifetime in the queue and scan topics, where
// somebody should have settled them: it alarms also when no deliver or scanner
// runs.
func (d *Delay) watch(ctx context.Context) error {
	next := time.NewTimer(d.cfg.Watch)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-next.C:
		}
		if d.clock() == nil {
			d.watchOnce(ctx)
		}
		next.Reset(d.cfg.Watch)
	}
}

// overdue are the legs past their lifetime in one queue.
type overdue struct {
	count  int
	oldest *pb.Leg
}

func (d *Delay) watchOnce(ctx context.Context) {
	s := d.deps.Directory.Snapshot()
	found := map[string]*overdue{}
	gently := bus.Look{Pace: bus.Gently()} // what lies in the queue topics is read as a whole
	for group, topics := range groups(s) {
		err := d.deps.Bus.Waiting(ctx, group, topics, gently, func(r bus.Record) error {
			d.inspect(r, s, found)
			return nil
		})
		if err != nil && ctx.Err() == nil {
			d.deps.Log.Warn("queue topics can't be watched", "stage", stageName, "group", group, "err", err)
		}
	}
	d.metrics.overdue.Reset()
	for queue, o := range found {
		d.metrics.overdue.WithLabelValues(queue).Set(float64(o.count))
		d.deps.Log.Error("legs past their lifetime wait in a queue", "stage", stageName, "queue", queue,
			"count", o.count, "msg_id", o.oldest.MessageId, "born", time.UnixMilli(o.oldest.BornMs))
	}
}

// groups are the topics in which legs wait for each pool of deliver workers and
// of scanners.
func groups(s *directory.Snapshot) map[string][]string {
	topics := map[string][]string{}
	add := func(group, topic string) { topics[group] = append(topics[group], topic) }
	for _, q := range slices.Concat(s.Queues(), s.Retired()) {
		add(schemas.DeliverGroup(q.Pool), q.Topic())
		if q.Scanned {
			add(schemas.ScannerGroup(q.Pool), q.ScanTopic())
		}
	}
	return topics
}

// inspect counts a record that is overdue. Garbage is deliver's to move.
func (d *Delay) inspect(r bus.Record, s *directory.Snapshot, found map[string]*overdue) {
	var l pb.Leg
	if proto.Unmarshal(r.Value, &l) != nil || !isOverdue(&l, s.Queue, d.control.State().Suspended, d.deps.Now()) {
		return
	}
	o := found[l.Queue]
	if o == nil {
		o = &overdue{oldest: &l}
		found[l.Queue] = o
	}
	o.count++
	if l.BornMs < o.oldest.BornMs {
		o.oldest = &l
	}
}

func isOverdue(l *pb.Leg, queue func(string) *directory.Queue, s suspended, now time.Time) bool {
	q := queue(l.Queue)
	if q == nil {
		return false
	}
	stopped := time.Duration(l.StoppedMs) * time.Millisecond
	if since, ok := s(l.Tenant, l.Queue, l.Destination); ok {
		stopped += max(now.Sub(latest(since, time.UnixMilli(l.BornMs))), 0)
	}
	return now.After(q.Expires(time.UnixMilli(l.BornMs), stopped, l.ReversePath == "").Add(grace))
}
