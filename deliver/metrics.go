package deliver

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	attempts   prometheus.Counter
	seconds    prometheus.Histogram
	recipients *prometheus.CounterVec
	spills     *prometheus.CounterVec
	legs       *prometheus.CounterVec
	reports    *prometheus.CounterVec
	withheld   *prometheus.CounterVec
	content    prometheus.Counter
	journal    prometheus.Counter
	duplicates prometheus.Counter
	poison     prometheus.Counter
}

func newMetrics(r prometheus.Registerer, s func() (running, settling, held, bytes int)) *metrics {
	f := promauto.With(r)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "qstream_deliver_" + name, Help: help})
	}
	vec := func(name, label, help string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: "qstream_deliver_" + name, Help: help}, []string{label})
	}
	gauge := func(name, help string, pick func(running, settling, held, bytes int) int) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: "qstream_deliver_" + name, Help: help}, func() float64 {
			return float64(pick(s()))
		})
	}
	gauge("running_legs", "Attempts under way.", func(n, _, _, _ int) int { return n })
	gauge("settling_legs", "Refused and expired legs being settled.", func(_, n, _, _ int) int { return n })
	gauge("held_legs", "Legs that wait for their turn or are attempted.", func(_, _, n, _ int) int { return n })
	gauge("held_bytes", "Bytes of the legs held.", func(_, _, _, n int) int { return n })
	return &metrics{
		attempts: counter("attempts_total", "Attempts made."),
		seconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: "qstream_deliver_attempt_seconds", Help: "How long attempts took.",
			Buckets: []float64{.01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600},
		}),
		recipients: vec("recipients_total", "outcome", "Recipients by outcome: delivered, deferred, bounced, expired, discarded."),
		spills:     vec("spilled_total", "reason", "Legs sent to delay without an attempt: share, breaker, held."),
		legs:       vec("legs_total", "action", "Legs by what was done: attempt, refuse, expire, park, reroute."),
		reports:    vec("reports_total", "kind", "Reports made: failed, delayed, delivered, relayed."),
		withheld:   vec("reports_withheld_total", "policy", "Reports not made, by policy."),
		content:    counter("content_errors_total", "Attempts that found content unreadable."),
		journal:    counter("journal_errors_total", "Deliveries whose journal entry failed."),
		duplicates: counter("duplicates_total", "Records dropped because they repeat an earlier one."),
		poison:     counter("poison_total", "Records that can't be read, given to the deadletter topic."),
	}
}

// Label values.
var (
	actionNames = [...]string{toAttempt: "attempt", toRefuse: "refuse", toExpire: "expire", toPark: "park", toReroute: "reroute", toScan: "scan"}
	whyNames    = [...]string{overShare: "share", breakerOpen: "breaker", queueHeld: "held"}
	policyNames = map[string]string{policyRate: "rate", policyDouble: "double", policyTriple: "triple"}
)

func (f fate) label() string {
	switch {
	case f.dropped:
		return "discarded"
	case f.expired:
		return "expired"
	}
	return f.verdict.String()
}
