package tapper

import (
	"context"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/control"
	"qstream/directory"
	"qstream/tapper/tenants"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestNewRefuses(t *testing.T) {
	b := bustest.New(t)
	for name, d := range map[string]Deps{
		"nothing":      {},
		"no directory": {Bus: b, Control: control.Follow(b, nil)},
		"no control":   {Bus: b, Directory: directory.Follow(b)},
	} {
		if _, err := New(Config{}, d); err == nil || !strings.Contains(err.Error(), "required") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestStage: with nobody that reads, all parts become ready and end when they
// are told; nobody may ask unless somebody says who it is.
func TestStage(t *testing.T) {
	b := bustest.Start(t).Dial(t, bus.Config{})
	if _, err := directory.Apply(t.Context(), b, directory.Change{Documents: documents(t)}, directory.Options{}); err != nil {
		t.Fatal(err)
	}
	d, c := directory.Follow(b), control.Follow(b, nil)
	stage, err := New(Config{}, Deps{Bus: b, Directory: d, Control: c, Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	if stage.Ready() == nil {
		t.Error("ready before it has run")
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, run := range []func(context.Context) error{d.Run, c.Run, stage.Run} {
		running.Go(func() {
			if err := run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	for deadline := time.Now().Add(20 * time.Second); stage.Ready() != nil && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if err := stage.Ready(); err != nil {
		t.Error(err)
	}
	w := httptest.NewRecorder()
	stage.Events().ServeHTTP(w, httptest.NewRequest("GET", tenants.Path, nil))
	if w.Code != 403 {
		t.Errorf("asked by nobody: %d", w.Code)
	}
	cancel()
	running.Wait()
}

func documents(t *testing.T) []directory.Document {
	t.Helper()
	docs, err := directory.Parse(directory.File{Name: "t", Data: []byte("kind: tenant\nname: acme\n")})
	if err != nil {
		t.Fatal(err)
	}
	return docs
}
