// Package lanes lets more tests of a package run side by side than there are
// processors. It is for packages whose tests wait for brokers, sockets and
// processes more than they compute; only tests that call t.Parallel gain.
package lanes

import (
	"flag"
	"runtime"
	"strconv"
)

// Open makes room for n parallel tests, with the race detector for half as
// many, since there they compute more than they wait; or for as many as there
// are processors if that is more. TestMain calls it first; -parallel on the
// command line says otherwise.
func Open(n int) {
	if raced {
		n /= 2
	}
	if err := flag.Set("test.parallel", strconv.Itoa(max(n, runtime.GOMAXPROCS(0)))); err != nil {
		panic(err)
	}
}
