package audit

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"qstream/bus"
	"qstream/mail"
)

type metrics struct {
	missing, repeated, other prometheus.Gauge
	gaps, waiting            prometheus.Gauge
	success, balanced        prometheus.Gauge
	seconds                  prometheus.Gauge
	failures                 prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	gauge := func(name, help string) prometheus.Gauge {
		return f.NewGauge(prometheus.GaugeOpts{Name: "qstream_ledger_audit_" + name, Help: help})
	}
	return &metrics{
		missing:  gauge("missing", "Recipients that the last audit found nowhere."),
		repeated: gauge("repeated", "Recipients that the last audit found ended more than once."),
		other:    gauge("surplus", "Recipients that wait though they ended, or that nobody announced."),
		gaps:     gauge("gaps", "Partitions where records were deleted before they were read."),
		waiting:  gauge("waiting", "Recipients that wait, as the last audit counted them in unfinished records."),
		success:  gauge("last_success_seconds", "When the last audit was done, since 1970."),
		balanced: gauge("last_balanced_seconds", "When an audit last balanced, since 1970."),
		seconds:  gauge("took_seconds", "How long the last audit took."),
		failures: f.NewCounter(prometheus.CounterOpts{
			Name: "qstream_ledger_audit_failures_total", Help: "Audits that could not be done.",
		}),
	}
}

// firstNames is how many findings an alarm names in the log.
const firstNames = 5

// Run audits everything again and again until ctx ends, at a pace that spares
// the broker. The first audit is a minute after the start, when what waited at
// it flows again.
func (a *Auditor) Run(ctx context.Context) {
	if a.cfg.Every < 0 {
		return
	}
	wait := min(a.cfg.Every, time.Minute)
	for {
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		wait = a.cfg.Every
		r, err := a.audit(ctx, Scope{}, bus.Gently())
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			a.metrics.failures.Inc()
			a.deps.Log.Warn("audit not done, trying again later", "stage", "ledger", "err", err)
		default:
			a.tell(r)
		}
	}
}

// tell sets the metrics and raises the alarm.
func (a *Auditor) tell(r *Report) {
	m := a.metrics
	m.missing.Set(float64(r.Of(Missing)))
	m.repeated.Set(float64(r.Of(Repeated)))
	m.other.Set(float64(r.Of(Undead) + r.Of(Unannounced)))
	m.gaps.Set(float64(len(r.Gaps)))
	m.waiting.Set(float64(r.Total.Waiting))
	m.seconds.Set(float64(r.TookMs) / 1000)
	m.success.Set(float64(r.At.Unix()))
	if r.Balanced {
		m.balanced.Set(float64(r.At.Unix()))
		return
	}
	log := a.deps.Log.With("stage", "ledger")
	log.Error("the account of mail does not balance", "missing", r.Of(Missing), "repeated", r.Of(Repeated),
		"ended_but_waits", r.Of(Undead), "unannounced", r.Of(Unannounced), "gaps", len(r.Gaps))
	for _, f := range r.Findings[:min(len(r.Findings), firstNames)] {
		log.Error("audit finding", "what", f.What, "msg_id", f.MessageID, "recipient", f.Recipient,
			"rcpt", mail.Printable(f.Address), "tenant", f.Tenant, "queue", f.Queue,
			"last_event", f.LastEvent, "last_seen", mail.Printable(f.LastSeen))
	}
	for _, g := range r.Gaps[:min(len(r.Gaps), firstNames)] {
		log.Error("records deleted before they were read", "topic", g.Topic, "partition", g.Partition,
			"group", g.Group, "commit", g.Commit, "start", g.Start, "end", g.End)
	}
}
