// Package load is the two ends that a mail system is measured between: a
// source that hands mail in by SMTP and a sink that takes it at the other end.
//
// Guarantee: every mail carries a number and a checksum of all that the source
// wrote, so that Count names what was lost, came twice or was damaged.
// Guarantee: both ends take times from one monotonic clock, so that a mail's
// time from MAIL FROM to the sink's 250 is right to some microseconds.
// Guarantee: contents come from a fixed seed; two runs send the same bytes.
//
// Both ends are made to be cheap, since they share the machine with what they
// measure. The sink is a process of its own: this program started again, for
// which main (or TestMain) has to call Main first.
//
// It starts no mail system and knows none.
package load

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Main turns a program that StartSink started again into that sink; in any
// other it returns at once. It must come first in main or TestMain.
func Main() {
	if os.Getenv(child) == "" {
		return
	}
	if err := serve(stdio{}); err != nil {
		_, _ = os.Stderr.WriteString("sink: " + err.Error() + "\n")
		os.Exit(1)
	}
	os.Exit(0)
}

// clock is the machine's monotonic clock as nanoseconds, the same in every
// process. A reading through Go's own clock makes no system call.
type clock struct {
	begun time.Time
	at    int64
}

func newClock() (clock, error) {
	var ts unix.Timespec
	c := clock{begun: time.Now()}
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return c, err
	}
	c.at = ts.Nano()
	return c, nil
}

func (c clock) now() int64 { return c.at + int64(time.Since(c.begun)) }
