package webhook

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/control"
)

// TestResumeWins: of two posts under way the first is answered 410 and pauses
// the webhook, somebody resumes it, and only then the second is answered 410: it
// says nothing that whoever resumed didn't know.
func TestResumeWins(t *testing.T) {
	broker := bustest.Start(t)
	b := broker.Dial(t, bus.Config{})
	var asked, taken atomic.Int64
	both, resumed := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch asked.Add(1) {
		case 1:
			<-both
			w.WriteHeader(http.StatusGone)
		case 2:
			close(both)
			<-resumed
			w.WriteHeader(http.StatusGone)
		default:
			taken.Add(1)
			w.WriteHeader(http.StatusNoContent)
		}
	}))
	t.Cleanup(server.Close)
	apply(t, b, document("w", server.URL, "all: true\ntimeout: 30s\n"))
	start(t, broker, nil)
	rs, _ := events("acme", 2, 1)
	put(t, b, rs)
	state := func() control.Webhook {
		t.Helper()
		s, err := control.Read(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		return s.Webhook("w")
	}
	eventually(t, "a pause", func() bool { return state().Paused() })
	command(t, b, control.Command{Verb: control.ResumeWebhook, Webhook: "w"})
	close(resumed)
	eventually(t, "both posts", func() bool { return taken.Load() >= 2 })
	if w := state(); w.Paused() || w.Resumed == 0 {
		t.Errorf("%+v, want it resumed", w)
	}
}
