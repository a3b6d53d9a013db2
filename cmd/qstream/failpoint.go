package main

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// failpoints reads "name:count": die is called the count-th time that the
// process passes the failpoint of that name. Empty text is no failpoint.
func failpoints(text string, die func()) (func(string), error) {
	if text == "" {
		return func(string) {}, nil
	}
	name, number, ok := strings.Cut(text, ":")
	count := 1
	if ok {
		var err error
		if count, err = strconv.Atoi(number); err != nil || count < 1 {
			return nil, usagef("QSTREAM_FAILPOINT %q: want name:count", text)
		}
	}
	var passed atomic.Int64
	return func(here string) {
		if here == name && passed.Add(1) == int64(count) {
			die()
		}
	}, nil
}

// killSelf ends the process as a crash would: no deferred call, no flush.
func killSelf() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // the signal is on its way; nothing may happen after this point
}
