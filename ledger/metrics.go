package ledger

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	events     prometheus.Counter
	repeated   prometheus.Counter
	unreadable prometheus.Counter
	notes      prometheus.Counter
	builds     prometheus.Counter
	gaps       prometheus.Counter
	failures   prometheus.Counter
	hanging    prometheus.Counter
	seconds    prometheus.Counter
}

// newMetrics registers them; age is how old the view is, in seconds.
func newMetrics(r prometheus.Registerer, age func() float64) *metrics {
	f := promauto.With(r)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "qstream_ledger_age_seconds", Help: "How long ago it was confirmed that the view had read the events to their end; -1: not yet.",
	}, age)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "qstream_ledger_" + name, Help: help})
	}
	return &metrics{
		events:     counter("events_total", "Events written to the view, repeated ones included."),
		repeated:   counter("events_repeated_total", "Events that repeat another, and count once."),
		unreadable: counter("events_unreadable_total", "Records of the events topic that are no events."),
		notes:      counter("notes_total", "Records noted that no router had read for a while."),
		builds:     counter("builds_total", "How often the view was begun anew from the log."),
		gaps:       counter("gaps_total", "Partitions whose events were gone before they were read."),
		hanging:    counter("hanging_total", "Partitions in which a transaction hung and was ended."),
		failures:   counter("failures_total", "How often the view could not be kept."),
		seconds:    counter("write_seconds_total", "Time spent writing the view."),
	}
}
