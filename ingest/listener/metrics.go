package listener

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	open        prometheus.Gauge
	connections *prometheus.CounterVec
}

// newMetrics registers the metrics; a nil registerer registers nothing.
func newMetrics(service string, r prometheus.Registerer) *metrics {
	name, prefix := strings.ToUpper(service), "qstream_ingest_"+service
	m := &metrics{
		open: prometheus.NewGauge(prometheus.GaugeOpts{Name: prefix + "_open_connections", Help: name + " connections that are open."}),
		connections: prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + "_connections_total",
			Help: name + " connections, by whether they were accepted."}, []string{"result"}),
	}
	if r != nil {
		r.MustRegister(m.open, m.connections)
	}
	return m
}
