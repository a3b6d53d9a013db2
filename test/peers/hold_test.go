package peers_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"qstream/engine"
	"qstream/test/peers"
)

const (
	maxScanner = 300 // MiB that the scanner's process may take
	manyLarge  = 4   // messages of many megabytes at once; of others 16
)

const hardSite = `kind: engine
name: measure
type: unpack
folder: %[1]s
---
kind: engine
name: clamav
type: clamd
folder: %[1]s
address: tcp://%[2]s
---
kind: scan
name: standard
engines: [measure, clamav]
`

// TestHardMailThroughTheStage: mail that is built to slip through or to do
// harm, many at once by SMTP, meets the right action through a scanner of its
// own, each within its deadline, and the scanner stays small.
func TestHardMailThroughTheStage(t *testing.T) {
	peers.Need(t)
	c := peers.StartClamd(t, "StreamMaxLength 100M", "MaxFileSize 100M", "MaxScanSize 400M", "MaxThreads 16")
	a := startApart(t, func(files string) string { return fmt.Sprintf(hardSite, files, c.Addr()) })
	files := a.watchFiles()
	mails := peers.HardMails()
	for _, name := range slices.Sorted(maps.Keys(mails)) {
		m := mails[name]
		var content bytes.Buffer
		if err := m.Write(&content); err != nil {
			t.Fatal(err)
		}
		n := 16
		if content.Len() > 1<<20 {
			n = manyLarge
		}
		a.hard(name, content.Bytes(), m.Outcome, n)
	}
	peak, disk := a.peak("scanner"), files()
	t.Logf("the scanner took %d MiB at most, and its engines' files %d MiB of the disk", peak, disk)
	if peak > maxScanner {
		t.Errorf("the scanner took %d MiB, wanted at most %d", peak, maxScanner)
	}
	if strings.Contains(a.log(), "outcome=failed") {
		t.Errorf("a scan had no verdict in its time\n%s", a.LogTail("scanner"))
	}
}

// hard hands in n messages of a kind at once, each a little different, and
// waits until all of them met the action for the outcome.
func (a *apart) hard(name string, content []byte, o engine.Outcome, n int) {
	a.t.Helper()
	began := time.Now()
	var mu sync.Mutex
	cases := map[string]string{} // by message id
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			which := fmt.Sprintf("%s-%d", name, i)
			id := a.hand(slices.Concat([]byte("X-Case: "+which+"\r\n"), content))
			mu.Lock()
			cases[id] = which
			mu.Unlock()
		})
	}
	wg.Wait()
	if a.t.Failed() {
		return
	}
	taken := time.Since(began)
	finding := o.String()
	if o == engine.Clean || o == engine.Encrypted {
		finding = "" // it is delivered
	}
	missing := func() (m []string) {
		arrived, held := a.delivered(), a.quarantined()
		for id, which := range cases {
			mail, came := arrived[which]
			switch {
			case held[id] != finding || came != (finding == ""):
				m = append(m, fmt.Sprintf("%s is %q, arrived: %t", which, held[id], came))
			case o == engine.Encrypted && !strings.Contains(mail, "X-Qstream-Scan: encrypted by measure"):
				m = append(m, which+" has no tag")
			}
		}
		return m
	}
	for end := time.Now().Add(5 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		m := missing()
		if len(m) == 0 {
			break
		}
		if time.Now().After(end) {
			a.t.Errorf("%s: %v\n%s", name, m, a.LogTail("scanner"))
			return
		}
	}
	a.t.Logf("%-10s %2d at once, %9d bytes each: taken after %5.1f s, all %s after %5.1f s; the longest scan took %v; the scanner %d MiB so far",
		name, n, len(content), taken.Seconds(), action(finding), time.Since(began).Seconds(), a.longest(slices.Collect(maps.Keys(cases))), a.peak("scanner"))
}

func action(finding string) string {
	if finding == "" {
		return "delivered"
	}
	return "held as " + finding
}

// longest is the longest time that the engines took for any of the messages.
func (a *apart) longest(ids []string) (most time.Duration) {
	a.t.Helper()
	for _, id := range ids {
		events, err := a.Trace(id)
		a.check(err)
		for _, e := range events {
			var ms int64
			if _, err := fmt.Sscan(fmt.Sprint(e["took_ms"]), &ms); err == nil && e["stage"] == "scanner" {
				most = max(most, time.Duration(ms)*time.Millisecond)
			}
		}
	}
	return most
}
