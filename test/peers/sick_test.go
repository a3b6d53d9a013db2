package peers_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"qstream/engine"
	"qstream/engine/clamd"
	"qstream/test/peers"
)

// sickSite has one clamd that is soon given up.
const sickSite = `kind: engine
name: clamav
type: clamd
address: tcp://%s
deadline: 3s
per_megabyte: 0s
patience: 10s
keep: %s
---
kind: scan
name: standard
engines: [clamav]
`

// stream is mail that comes all the time: by turns what is clean and what isn't.
type stream struct {
	a    *apart
	body string // that all have

	mu    sync.Mutex
	cases map[string]string // message id by case
	halt  context.CancelFunc
	done  sync.WaitGroup
}

func (a *apart) begin(body string) *stream {
	ctx, cancel := context.WithCancel(context.Background())
	s := &stream{a: a, body: body, cases: map[string]string{}, halt: cancel}
	a.t.Cleanup(func() { cancel(); s.done.Wait() })
	s.done.Go(func() {
		pace := time.NewTicker(100 * time.Millisecond)
		defer pace.Stop()
		for n := 0; ; n++ {
			which, bad := fmt.Sprintf("good-%d", n), ""
			if n%2 == 1 {
				which, bad = fmt.Sprintf("bad-%d", n), peers.EICAR+"\r\n"
			}
			id := a.hand(fmt.Appendf(nil, "X-Case: %s\r\nSubject: some mail\r\n\r\n%s%s", which, bad, s.body))
			s.mu.Lock()
			s.cases[which] = id
			s.mu.Unlock()
			select {
			case <-ctx.Done():
				return
			case <-pace.C:
			}
		}
	})
	return s
}

// fate is how many of the mails were delivered and held; anything that went the
// wrong way is an error.
func (s *stream) fate() (delivered, held, all int) {
	s.a.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	arrived, caught := s.a.delivered(), s.a.quarantined()
	for which, id := range s.cases {
		_, came := arrived[which]
		bad := strings.HasPrefix(which, "bad")
		switch finding := caught[id]; {
		case bad && came:
			s.a.t.Errorf("%s passed", which)
		case bad && finding == "malware":
			held++
		case finding != "":
			s.a.t.Errorf("%s is held for %q", which, finding)
		case came:
			delivered++
		}
	}
	return delivered, held, len(s.cases)
}

// some waits until ten more mails met their fate.
func (s *stream) some() {
	s.a.t.Helper()
	delivered, held, _ := s.fate()
	before := delivered + held
	eventually(s.a.t, s.a.tail, func() bool {
		delivered, held, _ := s.fate()
		return delivered+held >= before+10
	})
}

// end stops it and waits until every mail met its fate.
func (s *stream) end() {
	s.a.t.Helper()
	s.halt()
	s.done.Wait()
	began, delivered, held, all := time.Now(), 0, 0, 0
	for delivered, held, all = s.fate(); delivered+held < all; delivered, held, all = s.fate() {
		if time.Since(began) > 3*time.Minute {
			s.a.t.Fatalf("%d mails: %d delivered and %d held\n%s", all, delivered, held, s.a.LogTail("scanner"))
		}
		time.Sleep(200 * time.Millisecond)
	}
	s.a.t.Logf("%d mails: %d delivered, %d held, the last %.1f s after they came", all, delivered, held, time.Since(began).Seconds())
}

// reasons are those of failed scans in the scanner's log, counted.
func (a *apart) reasons() map[string]int {
	n := map[string]int{}
	for _, rest := range strings.Split(a.log(), "outcome=failed reason=")[1:] {
		reason, _, _ := strings.Cut(rest, " ")
		n[reason]++
	}
	return n
}

// sickness is what befalls a clamd, and how that is told.
type sickness struct {
	settings []string
	body     string // of all mails, beside EICAR
	begin    func(*testing.T, *peers.Clamd)
	end      func(*testing.T, *peers.Clamd)
	reason   string // of the failures, in the log; empty: any
}

func signal(s syscall.Signal) func(*testing.T, *peers.Clamd) {
	return func(t *testing.T, c *peers.Clamd) {
		if err := c.Process().Signal(s); err != nil {
			t.Error(err)
		}
	}
}

// fill takes all room of a small folder, also what the scans of that moment give
// back later, until it is freed.
func fill(t *testing.T, folder string) (free func()) {
	f, err := os.Create(filepath.Join(folder, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	page := make([]byte, 4<<10)
	taken := func() (octets int) {
		for ; octets < 4<<20; octets += len(page) {
			if _, err := f.Write(page); err != nil {
				return octets
			}
		}
		t.Error("the folder takes more than it can")
		return octets
	}
	taken()
	var filling sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	filling.Go(func() {
		for ctx.Err() == nil {
			taken()
			time.Sleep(5 * time.Millisecond)
		}
	})
	free = sync.OnceFunc(func() {
		cancel()
		filling.Wait()
		_ = f.Close()
		_ = os.Remove(f.Name())
	})
	t.Cleanup(free)
	return free
}

// TestSickClamd: whatever befalls clamd under load, nothing passes unscanned,
// it is told by metric and log, and all of it goes on by itself when clamd is
// well again.
func TestSickClamd(t *testing.T) {
	peers.Need(t)
	folder := peers.Small(t)
	var free func()
	for name, sick := range map[string]sickness{
		"killed": {
			begin: func(_ *testing.T, c *peers.Clamd) { c.Kill() }, end: func(_ *testing.T, c *peers.Clamd) { c.Again() },
			reason: "unreachable",
		},
		"hung": {begin: signal(syscall.SIGSTOP), end: signal(syscall.SIGCONT), reason: "late"},
		"broken set": { // clamd then fails every scan until it is started anew
			settings: []string{"ConcurrentDatabaseReload no"},
			begin: func(t *testing.T, c *peers.Clamd) {
				c.Signatures("no:signature\n")
				c.Command("RELOAD")
			},
			end: func(t *testing.T, c *peers.Clamd) {
				c.Kill()
				c.Signatures(fmt.Sprintf("Test.EICAR:0:*:%s\n", hex.EncodeToString([]byte(peers.EICAR))))
				c.Again()
			},
		},
		"full": { // its temporary folder
			settings: []string{"TemporaryDirectory " + folder},
			body:     strings.Repeat("some text that needs room\r\n", 4000),
			begin:    func(t *testing.T, _ *peers.Clamd) { free = fill(t, folder) },
			end:      func(*testing.T, *peers.Clamd) { free() },
			reason:   "trouble",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := peers.StartClamd(t, sick.settings...)
			a := startApart(t, func(string) string { return fmt.Sprintf(sickSite, c.Addr(), "0s") })
			s := a.begin(sick.body)
			s.some()
			sick.begin(t, c)
			eventually(t, a.tail, func() bool {
				return strings.Contains(a.log(), `msg="engine is down"`) && strings.Contains(a.log(), "outcome=failed reason="+sick.reason) &&
					a.metric(`qstream_scanner_verdicts_total{engine="clamav",outcome="failed"}`) >= 5 &&
					a.metric(`qstream_scanner_legs_total{action="wait"}`) >= 5
			})
			sick.end(t, c)
			eventually(t, a.tail, func() bool { return strings.Contains(a.log(), `msg="engine is back"`) })
			s.some()
			s.end()
			t.Logf("scans without a verdict, by reason: %v", a.reasons())
		})
	}
}

// TestCrowdedClamd: while others take all its threads and its queue, what has no
// verdict in time waits, and goes on when they are gone.
func TestCrowdedClamd(t *testing.T) {
	peers.Need(t)
	c := peers.StartClamd(t, "MaxThreads 2", "MaxQueue 4", "MaxConnectionQueueLength 2")
	a := startApart(t, func(string) string { return fmt.Sprintf(sickSite, c.Addr(), "0s") })
	s := a.begin("")
	s.some()
	leave := crowd(t, c)
	defer leave()
	eventually(t, a.tail, func() bool { return a.metric(`qstream_scanner_verdicts_total{engine="clamav",outcome="failed"}`) >= 1 })
	leave()
	s.some()
	s.end()
	t.Logf("scans without a verdict, by reason: %v", a.reasons())
}

// crowd gives a clamd far more to do than it can.
func crowd(t *testing.T, c *peers.Clamd) (end func()) {
	var content bytes.Buffer
	if err := peers.HardMails()["parts"].Write(&content); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			e, err := clamd.New(clamd.Config{Network: "tcp", Address: c.Addr()})
			if err != nil {
				t.Error(err)
				return
			}
			defer e.Close()
			for ctx.Err() == nil {
				e.Scan(ctx, bytes.NewReader(content.Bytes()), &engine.Facts{})
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

// TestSlowClamd: a clamd that takes a second for each message holds nothing up
// for good, and nobody takes it for one that is down.
func TestSlowClamd(t *testing.T) {
	peers.Need(t)
	f := peers.StartFront(t, peers.StartClamd(t).Addr())
	a := startApart(t, func(string) string { return fmt.Sprintf(sickSite, f.Addr(), "0s") })
	s := a.begin("")
	s.some()
	f.Slow(time.Second)
	for range 3 {
		s.some()
	}
	s.end()
	if log := a.log(); strings.Contains(log, "outcome=failed") || strings.Contains(log, "engine is down") {
		t.Errorf("a slow clamd is taken for a sick one\n%s", a.tail())
	}
}

// TestNewSignatures: what was clean and is known as malware by newer signatures
// is found though its verdict was kept: at once with own signatures alone, of
// which clamd tells nothing; when the number of the official ones changes; and
// when only own ones did, after the engine's keep.
func TestNewSignatures(t *testing.T) {
	peers.Need(t)
	const sample = "Subject: once more\r\n\r\nthis will be a plague\r\n"
	eicar := fmt.Sprintf("Test.EICAR:0:*:%x\n", peers.EICAR)
	plague := fmt.Sprintf("Test.Plague:0:*:%x\n", "will be a plague")
	built := time.Now().Add(-5 * 24 * time.Hour)
	for name, test := range map[string]struct {
		keep   string
		before func(*peers.Front)
		after  func(*peers.Front)
	}{
		"own alone":        {"1h", func(*peers.Front) {}, func(*peers.Front) {}},
		"official":         {"1h", func(f *peers.Front) { f.Signed(1, built) }, func(f *peers.Front) { f.Signed(2, time.Now()) }},
		"own and official": {"5s", func(f *peers.Front) { f.Signed(1, built) }, func(*peers.Front) {}},
	} {
		t.Run(name, func(t *testing.T) {
			c := peers.StartClamd(t)
			f := peers.StartFront(t, c.Addr())
			test.before(f)
			a := startApart(t, func(string) string { return fmt.Sprintf(sickSite, f.Addr(), test.keep) })
			s := a.begin("")
			s.some()
			first, second := a.hand([]byte(sample)), a.hand([]byte(sample))
			passed := func(id string) func() bool {
				return func() bool {
					return strings.Contains(a.log(), id+" tenant=scanned queue=scanned engine=clamav outcome=clean")
				}
			}
			eventually(t, a.tail, passed(first))
			eventually(t, a.tail, passed(second))
			kept := a.metric("qstream_scanner_kept_verdicts_total")
			c.Signatures(eicar + plague)
			if answer := c.Command("RELOAD"); answer != "RELOADING" {
				t.Fatalf("RELOAD is answered %q", answer)
			}
			test.after(f)
			changed := time.Now()
			eventually(t, a.tail, func() bool {
				a.hand([]byte(sample))
				return strings.Contains(a.log(), "found=Test.Plague")
			})
			t.Logf("found %.1f s after the change; %v verdicts were kept before", time.Since(changed).Seconds(), kept)
			if official := name != "own alone"; official != (kept > 0) {
				t.Errorf("%v verdicts were kept", kept)
			}
			if name == "own and official" { // these are five days old
				eventually(t, a.tail, func() bool {
					return strings.Contains(a.log(), `msg="signatures are too old"`) && a.metric("qstream_scanner_signatures_old") == 1
				})
			}
			s.end()
		})
	}
}
