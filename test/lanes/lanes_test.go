package lanes

import (
	"sync"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	Open(200)
	m.Run()
}

// All of them are there at once, however few processors there are.
func TestOpen(t *testing.T) {
	const many = 100
	var here sync.WaitGroup
	here.Add(many)
	for range many {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			here.Done()
			met := make(chan struct{})
			go func() { here.Wait(); close(met) }()
			select {
			case <-met:
			case <-time.After(time.Minute):
				t.Error("the others don't run")
			}
		})
	}
}
