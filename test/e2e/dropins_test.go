package e2e

import (
	"os"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// dropins: qmail-queue, qmail-qmqpc, sendmail and mailq are in the path, and
// know the running system.
func cmdDropins(ts *testscript.TestScript, neg bool, args []string) {
	dir := ts.MkAbs("dropins")
	env, err := of(ts).DropIns(dir)
	ts.Check(err)
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		ts.Setenv(name, value)
	}
	ts.Setenv("PATH", dir+string(os.PathListSeparator)+ts.Getenv("PATH"))
}
