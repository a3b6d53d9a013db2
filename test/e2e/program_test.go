package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// runs FILE: in time the process whose number the file holds runs. With "!":
// it has ended.
func cmdRuns(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(eventually(patience, func() error {
		pid, err := os.ReadFile(ts.MkAbs(args[0]))
		if err != nil {
			return err
		}
		if number := strings.TrimSpace(string(pid)); alive(number) == neg {
			return fmt.Errorf("process %q: it runs: %t", number, neg)
		}
		return nil
	}))
}

// alive reports a process that is there and no zombie.
func alive(pid string) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
	if err != nil {
		return false
	}
	_, state, _ := bytes.Cut(stat, []byte(") "))
	return !bytes.HasPrefix(state, []byte("Z")) && !bytes.HasPrefix(state, []byte("X"))
}
