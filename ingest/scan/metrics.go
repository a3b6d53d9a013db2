package scan

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"qstream/directory/roster"
	"qstream/engine"
)

type metrics struct {
	scans     *prometheus.CounterVec
	unscanned *prometheus.CounterVec
	verdicts  *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
	engines   roster.Gauges
}

func newMetrics(r prometheus.Registerer, running func() float64) *metrics {
	f := promauto.With(r)
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "qstream_ingest_scan_running_scans", Help: "Messages that are scanned within their sessions now."}, running)
	return &metrics{
		scans: f.NewCounterVec(prometheus.CounterOpts{
			Name: "qstream_ingest_scan_messages_total", Help: "Messages scanned within their sessions, by what became of them: accepted, left (accepted, the scanners ask the policy), deferred, refused, gone (the client left), fault (our own trouble).",
		}, []string{"fate"}),
		unscanned: f.NewCounterVec(prometheus.CounterOpts{
			Name: "qstream_ingest_scan_unscanned_total", Help: "Messages that could not be scanned within their sessions: busy, late, down. They are left or deferred.",
		}, []string{"reason"}),
		verdicts: f.NewCounterVec(prometheus.CounterOpts{
			Name: "qstream_ingest_scan_verdicts_total", Help: "Verdicts given within sessions, by engine and outcome.",
		}, []string{"engine", "outcome"}),
		engines: roster.NewGauges(r, "qstream_ingest_scan_"),
		seconds: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "qstream_ingest_scan_seconds", Help: "Time that an engine took for a message within its session.",
			Buckets: []float64{.001, .005, .02, .1, .5, 2, 10, 60, 300},
		}, []string{"engine"}),
	}
}

func (m *metrics) verdict(v engine.Verdict) {
	m.verdicts.WithLabelValues(v.Engine, v.Outcome.String()).Inc()
}

// ended counts a scan without an answer.
func (m *metrics) ended(err error) {
	fate := "fault"
	if errors.Is(err, ErrGone) {
		fate = "gone"
	}
	m.scans.WithLabelValues(fate).Inc()
}
