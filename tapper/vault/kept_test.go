package vault

import (
	"log/slog"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"qstream/bus"
	"qstream/schemas"
)

// That the broker doesn't tell what topics keep is said once, and by a metric,
// until it does; what it told before stays, for each topic.
func TestUnknownRetention(t *testing.T) {
	s := newSystem(t)
	eventually(t, "the directory is read", func() bool {
		select {
		case <-s.dir.Ready():
			return true
		default:
			return false
		}
	})
	refuse := s.broker.RefuseSettings()
	var text lockedBuffer
	registry := prometheus.NewRegistry()
	v, err := New(Config{Dir: s.folder.Dir, Me: "mx.example"}, Deps{
		Bus: s.broker.Dial(t, bus.Config{}), Directory: s.dir, Now: s.now, Metrics: registry, Log: slog.New(slog.NewTextHandler(&text, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer v.apart.Close()
	told := map[string]int{}
	look := func(name string, unknown float64, again time.Duration, told map[string]int) {
		t.Helper()
		if wait := v.learnKept(t.Context()); wait != again {
			t.Errorf("%s: asks again after %v, want %v", name, wait, again)
		}
		if got := metricsOf(t, registry)["qstream_tapper_vault_retention_unknown []"]; got != unknown {
			t.Errorf("%s: the metric is %v, want %v", name, got, unknown)
		}
		found := map[string]int{}
		for line := range strings.Lines(text.text.String()) {
			for _, word := range []string{"is unknown", "is known again"} {
				found[word] += strings.Count(line, word)
			}
			if strings.Contains(line, "is unknown") && !(strings.Contains(line, "level=WARN") && strings.Contains(line, "qstream.") && strings.Contains(line, "AUTHORIZATION")) {
				t.Errorf("%s: the line doesn't say which topic and why: %s", name, line)
			}
		}
		maps.DeleteFunc(found, func(_ string, n int) bool { return n == 0 })
		if !maps.Equal(found, told) {
			t.Errorf("%s: the log has %v, want %v", name, found, told)
		}
	}
	look("known", 0, keptAsk, told)
	row, _ := schemas.ByName(schemas.Received)
	content := schemas.Content(schemas.DefaultClass)
	if kept := v.kept(); kept[schemas.Received] != row.Retention || kept[content] != row.Retention {
		t.Fatalf("topics keep %v", kept)
	}
	refuse(content)
	told["is unknown"] = 1
	look("one is refused", 1, keptAgain, told)
	look("and again", 1, keptAgain, told)
	if kept := v.kept(); kept[schemas.Received] != row.Retention || kept[content] != row.Retention {
		t.Errorf("what was known is %v", kept)
	}
	refuse()
	told["is known again"] = 1
	look("mended", 0, keptAsk, told)
	v.cfg.Keeps = func() time.Duration { return 24 * time.Hour }
	look("less than topics say", 0, keptAsk, told)
	if kept := v.kept(); kept[schemas.Received] != 24*time.Hour || kept[schemas.Hold] != 24*time.Hour {
		t.Errorf("where less is kept than topics say, it is %v", kept)
	}
	v.cfg.Keeps = func() time.Duration { return 0 }
	look("as topics say", 0, keptAsk, told)
	refuse(schemas.Received, schemas.Reinject, schemas.Events, schemas.Hold, content)
	told["is unknown"] = 2
	look("all are refused", 1, keptAgain, told)
	if kept := v.kept(); kept.of(content) != row.Retention {
		t.Errorf("what was known is %v", kept)
	}
}
