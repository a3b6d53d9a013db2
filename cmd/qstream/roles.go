package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"qstream/bus"
	"qstream/control"
	"qstream/directory"
)

// stage is what every role is once it is made.
type stage interface {
	Run(ctx context.Context) error
	// Ready is nil while the stage does its work.
	Ready() error
}

// ground is what the roles of a process share.
type ground struct {
	bus       *bus.Bus
	directory *directory.Follower
	control   *control.Follower
	log       *slog.Logger
	metrics   prometheus.Registerer
	now       func() time.Time
	failpoint func(string)
}

// role is a row of the role table: its name and its constructor, which checks
// and starts nothing. Each role stands in a file of its own, with its verb.
type role struct {
	name string
	make func(ground) (stage, error)
}
