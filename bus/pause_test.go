package bus

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		for _, tt := range []struct {
			wait, passed time.Duration
			want         bool
		}{
			{-time.Second, 0, true},
			{0, 0, true},
			{10 * time.Second, 10 * time.Second, true},
			{time.Hour, time.Minute, false},
			{0, time.Minute, false},
			{-time.Second, time.Minute, false},
			{time.Hour, time.Minute, false},
		} {
			if got := Pause(ctx, tt.wait); got != tt.want || time.Since(began) != tt.passed {
				t.Errorf("%v: %v after %v", tt.wait, got, time.Since(began))
			}
		}
	})
}
