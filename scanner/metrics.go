package scanner

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"qstream/directory/roster"
	"qstream/directory/ruling"
)

type metrics struct {
	legs       *prometheus.CounterVec
	verdicts   *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
	kept       prometheus.Counter
	content    prometheus.Counter
	duplicates prometheus.Counter
	poison     prometheus.Counter
	rescans    *prometheus.CounterVec
	engines    roster.Gauges
	compared   *prometheus.CounterVec
	shadow     *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer, running func() float64) *metrics {
	f := promauto.With(r)
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "qstream_scanner_running_scans", Help: "Legs that are scanned now."}, running)
	return &metrics{
		legs: f.NewCounterVec(prometheus.CounterOpts{
			Name: "qstream_scanner_legs_total", Help: "Legs taken up, by what became of them; one may become several.",
		}, []string{"action"}),
		verdicts: f.NewCounterVec(prometheus.CounterOpts{
			Name: "qstream_scanner_verdicts_total", Help: "Verdicts, by engine and outcome.",
		}, []string{"engine", "outcome"}),
		seconds: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "qstream_scanner_scan_seconds", Help: "Time that an engine took for a message.",
			Buckets: []float64{.001, .005, .02, .1, .5, 2, 10, 60, 300},
		}, []string{"engine"}),
		kept: f.NewCounter(prometheus.CounterOpts{
			Name: "qstream_scanner_kept_verdicts_total", Help: "Verdicts that another leg's scan of the same content gave.",
		}),
		content: f.NewCounter(prometheus.CounterOpts{
			Name: "qstream_scanner_unreadable_content_total", Help: "Contents that are not as they were stored.",
		}),
		duplicates: f.NewCounter(prometheus.CounterOpts{
			Name: "qstream_scanner_duplicates_total", Help: "Legs dropped because they repeat an earlier one.",
		}),
		poison: f.NewCounter(prometheus.CounterOpts{
			Name: "qstream_scanner_poison_total", Help: "Records that can't be read, given to the deadletter topic.",
		}),
		rescans: f.NewCounterVec(prometheus.CounterOpts{
			Name: "qstream_scanner_rescans_total", Help: "Legs of the past that were offered to be scanned again, by what came of it.",
		}, []string{"outcome"}),
		engines: roster.NewGauges(r, "qstream_scanner_"),
		compared: f.NewCounterVec(prometheus.CounterOpts{
			Name: "qstream_scanner_shadow_recipients_total", Help: "Recipients whose mail a shadow policy saw, by whether it would have gone the same way; missed: there was no room.",
		}, []string{"result"}),
		shadow: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "qstream_scanner_shadow_scan_seconds", Help: "Time that an engine took for a message that was only compared.",
			Buckets: []float64{.001, .005, .02, .1, .5, 2, 10, 60, 300},
		}, []string{"engine"}),
	}
}

// aside are the metrics of scans that decide nothing.
func (m *metrics) aside() *metrics {
	out := *m
	out.seconds = m.shadow
	return &out
}

func (m *metrics) verdict(v ruling.Said) {
	m.verdicts.WithLabelValues(v.Engine, v.Outcome.String()).Inc()
	if v.Kept {
		m.kept.Inc()
	}
}
