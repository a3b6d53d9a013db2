package httpd

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct{ requests *prometheus.CounterVec }

// newMetrics registers the metrics; a nil registerer registers nothing.
func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "qstream_ingest_http_requests_total",
		Help: "Requests that were answered, by HTTP status."}, []string{"status"})}
	if r != nil {
		r.MustRegister(m.requests)
	}
	return m
}

// answered takes statuses of a closed set: those of this package.
func (m *metrics) answered(status int) { m.requests.WithLabelValues(strconv.Itoa(status)).Inc() }
