// Package sinks makes a sink of its Spec. Adding one is its own file, one case
// here, and a row of its syntax in directory/sink.go; the suite runs by itself.
package sinks

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"qstream/directory"
	"qstream/tapper/sink"
)

// Types are the sinks there are.
var Types = []string{
	directory.SinkMaildir, directory.SinkMbox, directory.SinkFile, directory.SinkETSI,
	directory.SinkSMTP, directory.SinkS3, directory.SinkWebhook, directory.SinkKafka,
}

// New makes a sink; it opens nothing. Files with secrets are read when they are
// needed, so that they can be changed.
func New(spec sink.Spec, d sink.Deps) (sink.Sink, error) {
	if d.Me == "" {
		return nil, errors.New("sink: the name of this system is required")
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	s, err := construct(spec, d)
	if err != nil {
		return nil, fmt.Errorf("sink %s: %w", spec, err)
	}
	return s, nil
}

// construct is the one switch over types.
func construct(spec sink.Spec, d sink.Deps) (sink.Sink, error) {
	switch spec.Type {
	case directory.SinkMaildir:
		return newMaildir(spec, d), nil
	case directory.SinkMbox:
		return newMbox(spec, d), nil
	case directory.SinkFile:
		return newFile(spec), nil
	case directory.SinkETSI:
		return newETSI(spec), nil
	case directory.SinkSMTP:
		return newJournal(spec, d)
	case directory.SinkS3:
		return newS3(spec, d)
	case directory.SinkWebhook:
		return newWebhook(spec, d)
	case directory.SinkKafka:
		return newKafka(spec, d)
	}
	return nil, errors.New("no such sink")
}
