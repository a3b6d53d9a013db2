package e2e

import (
	"fmt"
	"os"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"qstream/test/fakeclamd"
)

// clamd NAME: start a fake clamd; $NAME is its address. It finds what is in
// eicar.eml, and poison.eml breaks its connections.
func cmdClamd(ts *testscript.TestScript, neg bool, args []string) {
	c, err := fakeclamd.Start()
	ts.Check(err)
	ts.Defer(c.Down)
	of(ts).clamds[args[0]] = c
	ts.Setenv(args[0], c.Addr())
	ts.Check(os.WriteFile(ts.MkAbs("eicar.eml"), fmt.Appendf(nil, "Subject: look\n\n%s\n", fakeclamd.Eicar), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs("poison.eml"), fmt.Appendf(nil, "Subject: look\n\n%s\n", fakeclamd.Poison), 0o600))
}

// mood NAME well|hang|down|slow DURATION: what the fake clamd does from now on.
func cmdMood(ts *testscript.TestScript, neg bool, args []string) {
	c := of(ts).clamds[args[0]]
	if args[1] == "down" {
		c.Down()
		return
	}
	ts.Check(c.Up())
	m := fakeclamd.Mood{Hang: args[1] == "hang"}
	if args[1] == "slow" {
		d, err := time.ParseDuration(args[2])
		ts.Check(err)
		m.Slow = d
	}
	c.Feel(m)
}

// learn NAME TEXT SIGNATURE: the fake clamd has new signatures, and finds TEXT.
func cmdLearn(ts *testscript.TestScript, neg bool, args []string) {
	of(ts).clamds[args[0]].Learn(args[1], args[2], true)
}
