package netstrings

import (
	"errors"
	"io"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"qstream/ingest/listener"
	"qstream/wire"
)

// Ends counts how a service's dialogues ended; EndOf names the ends.
func Ends(service string, r prometheus.Registerer) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "qstream_ingest_" + service + "_ends_total",
		Help: strings.ToUpper(service) + " connections that ended, by how."}, []string{"end"})
	if r != nil {
		r.MustRegister(v)
	}
	return v
}

// EndOf names what ended a dialogue: done, too_long, malformed, drained,
// timeout or broken.
func EndOf(err error) string {
	switch {
	case err == nil || errors.Is(err, io.EOF):
		return "done"
	case errors.Is(err, wire.ErrNetstringSize):
		return "too_long"
	case errors.Is(err, wire.ErrNetstring):
		return "malformed"
	case errors.Is(err, listener.ErrDraining):
		return "drained"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	}
	return "broken"
}
