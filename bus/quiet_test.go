package bus

import (
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

type heard struct {
	kgo.Logger
	lines []string
}

func (h *heard) Log(_ kgo.LogLevel, msg string, keyvals ...any) {
	h.lines = append(h.lines, fmt.Sprint(msg, keyvals))
}

func TestWarningsAreNotRepeated(t *testing.T) {
	now := time.Unix(0, 0)
	out := &heard{Logger: kgo.BasicLogger(io.Discard, kgo.LogLevelWarn, nil)}
	s := &said{now: func() time.Time { return now }}
	one, two := quiet{out, s}, quiet{out, s}
	gone := func(q quiet, addr string, err string) {
		q.Log(kgo.LogLevelWarn, "unable to open connection to broker", "addr", addr, "err", err)
	}
	for range 100 {
		gone(one, "192.0.2.1:9092", "refused")
		gone(two, "192.0.2.1:9092", "timeout")
	}
	if len(out.lines) != 1 {
		t.Errorf("said %d times: %q", len(out.lines), out.lines)
	}
	gone(two, "192.0.2.2:9092", "refused")
	two.Log(kgo.LogLevelWarn, "another thing", "addr", "192.0.2.1:9092")
	if len(out.lines) != 3 {
		t.Errorf("another broker or another thing wasn't said: %q", out.lines)
	}
	now = now.Add(quietFor)
	gone(one, "192.0.2.1:9092", "refused")
	if len(out.lines) != 4 || len(s.at) != 1 {
		t.Errorf("not said again later, or remembered for ever: %q, %v", out.lines, s.at)
	}
}
