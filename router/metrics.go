package router

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

type metrics struct {
	messages   *prometheus.CounterVec
	legs       *prometheus.CounterVec
	recipients prometheus.Counter
	duplicates prometheus.Counter
	poison     prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	return &metrics{
		messages: f.NewCounterVec(prometheus.CounterOpts{
			Name: "qstream_router_messages_total", Help: "Messages routed, by where they came from.",
		}, []string{"origin"}),
		legs: f.NewCounterVec(prometheus.CounterOpts{
			Name: "qstream_router_legs_total", Help: "Legs made, by decision: routed, to be scanned, or refused.",
		}, []string{"decision"}),
		recipients: f.NewCounter(prometheus.CounterOpts{
			Name: "qstream_router_recipients_total", Help: "Recipients routed or refused.",
		}),
		duplicates: f.NewCounter(prometheus.CounterOpts{
			Name: "qstream_router_duplicates_total", Help: "Records dropped because they repeat an earlier one.",
		}),
		poison: f.NewCounter(prometheus.CounterOpts{
			Name: "qstream_router_poison_total", Help: "Records that can't be read, given to the deadletter topic.",
		}),
	}
}

// origins are the label values of messages_total.
var origins = map[pb.Origin]string{
	pb.Origin_ORIGIN_UNSPECIFIED: "received",
	pb.Origin_ORIGIN_DSN:         "dsn",
	pb.Origin_ORIGIN_REROUTE:     "reroute",
	pb.Origin_ORIGIN_RELEASE:     "release",
	pb.Origin_ORIGIN_REPLAY:      "replay",
	pb.Origin_ORIGIN_FORWARD:     "forward",
	pb.Origin_ORIGIN_DIGEST:      "digest",
}

// routed counts what a step made. A step that is repeated counts again.
func (m *metrics) routed(msg *message, legs []*pb.Leg) {
	origin, ok := origins[msg.origin]
	if !ok {
		origin = "other"
	}
	m.messages.WithLabelValues(origin).Inc()
	m.recipients.Add(float64(len(msg.envelope.Recipients)))
	for _, l := range legs {
		decision := "routed"
		switch {
		case l.Refusal != nil:
			decision = "refused"
		case topic(l) == schemas.Scan(l.Queue, l.Generation):
			decision = "scan"
		}
		m.legs.WithLabelValues(decision).Inc()
	}
}
