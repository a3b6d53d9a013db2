package peers_test

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"qstream/test/peers"
)

// limitSite has tenants whose mail one clamd scans in four ways: as a whole, by
// parts too, below a size that we know, and with measure before it.
const limitSite = `kind: engine
name: whole
type: clamd
address: tcp://%[1]s
parts: false
---
kind: engine
name: parts
type: clamd
address: unix:%[2]s
---
kind: engine
name: sized
type: clamd
address: tcp://%[1]s
max_size: 1000000
---
kind: engine
name: measure
type: unpack
limits: {member: 600000, total: 1500000, depth: 8, parts: 1000, time: 60s}
---
kind: scan
name: measured
engines: [measure, whole]
`

// limitTenants are its policies.
var limitTenants = []string{"whole", "parts", "sized", "measured"}

func limited(c *peers.Clamd, inbox string) string {
	text := fmt.Sprintf(limitSite, c.Addr(), c.Socket())
	for _, name := range limitTenants {
		if name != "measured" {
			text += fmt.Sprintf("---\nkind: scan\nname: %[1]s\nengines: [%[1]s]\n", name)
		}
		text += fmt.Sprintf("---\nkind: tenant\nname: %[1]s\ndomains: [%[1]s.example]\nscan: %[1]s\n", name)
	}
	return text + fmt.Sprintf("---\nkind: route\nname: inbox\nmatch: {domain: \"*\"}\nvia: maildir:%s\n", inbox)
}

// members is a zip with these members.
func members(t *testing.T, method uint16, contents ...[]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i, c := range contents {
		f, err := w.CreateHeader(&zip.FileHeader{Name: fmt.Sprint(i), Method: method})
		if err == nil {
			_, err = f.Write(c)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestAboveClamdsLimits: what is larger than clamd takes, or looks into, is
// unscannable and held as that, by whatever limit, many at once, too; none of it
// passes or waits for a verdict that never comes.
func TestAboveClamdsLimits(t *testing.T) {
	peers.Need(t)
	c := peers.StartClamd(t, "StreamMaxLength 1M", "MaxFileSize 600K", "MaxScanSize 1500K")
	a := newApart(t)
	file := filepath.Join(a.Work, "site.yaml")
	a.check(os.WriteFile(file, []byte(limited(c, a.inbox)), 0o600))
	a.check(a.Up(file))
	noise := make([]byte, 2<<20)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(noise)
	eicar := []byte(peers.EICAR)
	text := bytes.Repeat([]byte("some text that is of no use to anybody\r\n"), 10_000) // 400 KB
	plain := func(b []byte) string { return "Subject: x\r\n\r\n" + string(b) + "\r\n" }
	clean, malware, unscannable := "", "malware", "unscannable"
	want := map[string]string{}
	mails := map[string]struct{ text, want string }{
		"small":                     {peers.Carrying([]byte("nothing here")), clean},
		"bad":                       {peers.Carrying(eicar), malware},
		"below all":                 {plain(text), clean},
		"above the stream":          {plain(bytes.Repeat(text, 4)), unscannable},
		"above the stream, bad":     {plain(append(bytes.Repeat(text, 4), eicar...)), unscannable},
		"far above the stream, bad": {peers.Carrying(append(noise, eicar...)), unscannable},
		"file, bad":                 {peers.Carrying(append(noise[:650<<10:650<<10], eicar...)), unscannable},
		"member, bad":               {peers.Carrying(members(t, zip.Store, append(noise[:620<<10:620<<10], eicar...))), unscannable},
		"members, bad":              {peers.Carrying(members(t, zip.Deflate, text, text, text, text, append(text, eicar...))), unscannable},
	}
	var many sync.WaitGroup
	var mu sync.Mutex
	hand := func(name, tenant, text, finding string) {
		many.Go(func() {
			id := a.send(name, tenant, text)
			mu.Lock()
			defer mu.Unlock()
			want[id] = name + "\n" + finding
		})
	}
	for which, m := range mails {
		for _, tenant := range limitTenants {
			if which != "members, bad" || tenant == "measured" { // clamd's word on these is known to be none
				hand(tenant+", "+which, tenant, m.text, m.want)
			}
		}
	}
	for n := range 16 {
		tenant := limitTenants[n%3]
		hand(fmt.Sprintf("%s, one of many, %d", tenant, n), tenant, mails["far above the stream, bad"].text, unscannable)
	}
	many.Wait()
	began := time.Now()
	var open string
	eventually(t, func() string { return open + a.LogTail("up") }, func() bool {
		arrived, caught := a.delivered(), a.quarantined()
		open = ""
		for id, is := range want {
			name, finding, _ := strings.Cut(is, "\n")
			_, came := arrived[name]
			switch got, held := caught[id]; {
			case came && finding != clean:
				t.Fatalf("%s passed", name)
			case held && got != finding:
				t.Fatalf("%s is held for %q", name, got)
			case !came && !held:
				open += name + " is open\n"
			}
		}
		return open == ""
	})
	log, err := os.ReadFile(filepath.Join(a.Work, "up.log"))
	a.check(err)
	if strings.Contains(string(log), "outcome=failed") {
		t.Errorf("a scan failed\n%s", a.LogTail("up"))
	}
	t.Logf("%d mails met their fate, the last %.1f s after it came", len(want), time.Since(began).Seconds())
}

// send hands in a message for a tenant and returns its id.
func (a *apart) send(which, tenant, text string) string {
	return a.handTo("bob@"+tenant+".example", []byte("X-Case: "+which+"\r\n"+text))
}

// besideSite has two tenants in a queue of their own each, scanned by the same
// engines.
const besideSite = `kind: engine
name: clamav
type: clamd
address: tcp://%s
---
kind: engine
name: measure
type: unpack
---
kind: scan
name: standard
engines: [measure, clamav]
---
kind: tenant
name: hostile
domains: [hostile.example]
scan: standard
---
kind: tenant
name: quiet
domains: [quiet.example]
scan: standard
---
kind: route
name: inbox
match: {domain: "*"}
via: maildir:%s
`

// TestBombsBesideOthers: while a tenant's bombs keep the scanner as busy as it
// may, another's mail is scanned and delivered, and in the end all bombs are held.
func TestBombsBesideOthers(t *testing.T) {
	peers.Need(t)
	const atOnce, quiet = 16, 10
	c := peers.StartClamd(t, "MaxFileSize 100M", "MaxScanSize 400M", "StreamMaxLength 100M")
	a := newApart(t)
	file := filepath.Join(a.Work, "site.yaml")
	a.check(os.WriteFile(file, fmt.Appendf(nil, besideSite, c.Addr(), a.inbox), 0o600))
	a.check(a.Up(file))
	alone := a.quiet("alone", quiet)

	var bomb bytes.Buffer
	a.check(peers.HardMails()["bomb"].Write(&bomb))
	bombs := map[string]bool{}
	var flood sync.WaitGroup
	over, stop := context.WithCancel(t.Context())
	defer func() { stop(); flood.Wait() }()
	flood.Go(func() {
		pace := time.NewTicker(time.Second)
		defer pace.Stop()
		for ; ; <-pace.C {
			open, held := 0, a.quarantined()
			for id := range bombs {
				if held[id] == "" {
					open++
				}
			}
			for ; open < atOnce && over.Err() == nil; open++ {
				bombs[a.handTo("bob@hostile.example", fmt.Appendf(nil, "X-Case: bomb-%d\r\n%s", len(bombs), bomb.Bytes()))] = true
			}
			if over.Err() != nil {
				return
			}
		}
	})
	eventually(t, func() string { return a.LogTail("up") }, func() bool { return len(a.quarantined()) > 0 })
	beside := a.quiet("beside", quiet)
	stop()
	flood.Wait()
	eventually(t, func() string { return a.LogTail("up") }, func() bool {
		held := a.quarantined()
		for id := range bombs {
			if held[id] != "unscannable" {
				return false
			}
		}
		return true
	})
	for which := range a.delivered() {
		if strings.HasPrefix(which, "bomb") {
			t.Errorf("%s passed", which)
		}
	}
	t.Logf("%d bombs, %d MiB at most; another's mail took %v at the median and %v at most beside them, %v and %v alone",
		len(bombs), a.peak("up"), beside[quiet/2], beside[quiet-1], alone[quiet/2], alone[quiet-1])
}

// quiet hands in so many mails of a quiet tenant, one after the other, and tells
// how long each took until it was delivered, the quickest first.
func (a *apart) quiet(name string, n int) (took []time.Duration) {
	a.t.Helper()
	for i := range n {
		which, began := fmt.Sprintf("%s-%d", name, i), time.Now()
		a.send(which, "quiet", "Subject: x\r\n\r\nhello\r\n")
		eventually(a.t, func() string { return which + a.LogTail("up") }, func() bool {
			_, came := a.delivered()[which]
			return came
		})
		took = append(took, time.Since(began).Round(time.Millisecond))
	}
	slices.Sort(took)
	return took
}
