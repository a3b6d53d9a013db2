package crash

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"qstream/test/fakemx"
	"qstream/test/rig"
)

// TestMemory hands in the largest mails at once, 100 on Kafka and 20 on the
// embedded broker: the process stays under 500 MB, and all arrive.
func TestMemory(t *testing.T) {
	each(t, "", "embedded,kafka1", func(t *testing.T, broker string) {
		sessions := 100
		if broker == "embedded" {
			sessions = 20
		}
		tr := start(t, broker, true, fakemx.Config{})
		content := rig.Sized(49 << 20)
		var wg sync.WaitGroup
		errs := make([]error, sessions)
		for i := range sessions {
			wg.Go(func() {
				_, errs[i] = rig.Hand(tr.SMTP, rig.Message{From: "a@client.example", To: "user@acme.example", Content: content}, io.Discard)
			})
		}
		wg.Wait()
		accepted := 0
		for _, err := range errs {
			if err == nil {
				accepted++
			} else if !strings.Contains(err.Error(), `"4`) {
				t.Errorf("%v", err)
			}
		}
		if accepted == 0 {
			t.Fatal("nothing was accepted: the trial shows nothing")
		}
		waitFor(t, "all mails", func() bool { return len(tr.sink.Accepted()) >= accepted })
		for name, p := range tr.Procs {
			peak := peakMemory(t, p.PID())
			t.Logf("%s: peak %d MB (%d of %d sessions accepted)", name, peak>>20, accepted, sessions)
			if peak > 500<<20 {
				t.Errorf("%s used %d MB", name, peak>>20)
			}
		}
	})
}

// peakMemory is a process's largest resident size so far, in bytes.
func peakMemory(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	for line := range strings.SplitSeq(string(text), "\n") {
		var kb int
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kb); err == nil {
			return kb << 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}
