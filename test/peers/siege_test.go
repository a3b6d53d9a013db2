package peers_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"qstream/test/peers"
	"qstream/wire"
)

// siegeSite has mail of strangers scanned within its session, by clamd behind
// measure. Nobody's queue or tenant has a policy. liarSite, for each way of lying,
// is for the clients of an address of their own.
const (
	siegeSite = `kind: engine
name: measure
type: unpack
limits: {member: 5000000, total: 20000000, depth: 8, parts: 1000, time: 20s}
---
kind: engine
name: clamav
type: clamd
address: tcp://%[1]s
deadline: 2m
---
kind: scan
name: strangers
engines: [measure, clamav]
rules: {on: malware, action: reject}
---
kind: rules
name: smtp
scan: {policy: strangers, deadline: 2m}
rules: |
%[2]s  127.0.2.:allow,SCANPOLICY="",QMAILHOME="%[3]s",QMAILQUEUE="queue"
  127.0.3.:allow,SCANPOLICY="",QHPSI="%[3]s/psi"
  :allow
---
kind: rules
name: qmqp
scan: {policy: strangers, deadline: 2m}
rules: '127.:allow,RELAYCLIENT=""'
---
kind: rules
name: qmtp
scan: {policy: strangers, deadline: 2m}
---
kind: rules
name: http
scan: {policy: strangers, deadline: 2m}
---
kind: tenant
name: acme
domains: [acme.example]
---
kind: route
name: inbox
match: {domain: "*"}
via: maildir:%[4]s
`
	liarSite = `---
kind: engine
name: %[1]s
type: clamd
address: tcp://%[2]s
deadline: 2s
per_megabyte: 0s
patience: 2s
---
kind: scan
name: %[1]s
engines: [%[1]s]
rules: {on: malware, action: reject}
`
)

// refusals are what clients hear of what is found, by how they handed it in.
var refusals = map[string]string{
	"octets": "554 5.7.1 refused by content policy", "wrapper": "554 5.7.1 virus", "program": "554 5.7.1 refused by content policy",
	"qmqp": "Drefused by content policy (#5.7.1)", "qmtp": "Drefused by content policy (#5.7.1)", "http": "403 5.7.1",
}

// TestSiege: engines that lie in every way, clients that leave at every moment,
// split and nest, all at once and by every protocol: what is found is
// refused, what got its 250 has its verdict before it is delivered, nothing of it
// is lost once the engines are honest, and nothing is left open by it.
func TestSiege(t *testing.T) {
	peers.Need(t)
	s := startSiege(t)
	s.tell(lying)
	files, routines := s.open()
	var nested bytes.Buffer
	nested.WriteString("MIME-Version: 1.0\r\nContent-Type: message/rfc822\r\n\r\n")
	s.check(peers.HardMails()["bomb"].Write(&nested))
	filler := strings.Repeat("filler\r\n", 9000)
	var all sync.WaitGroup
	each := func(kind string, n int, hand func(i int, which string, bad bool)) {
		for i := range n {
			all.Go(func() { hand(i, fmt.Sprintf("%s-%d", kind, i), i%2 == 1) })
		}
	}
	for i, way := range peers.Lies {
		from := fmt.Sprintf("127.0.1.%d", i+1)
		each(way, 6, func(i int, which string, bad bool) {
			s.visited(from, func(v *visitor) { v.hand(s, which, bad, content(which, bad, filler[:i/2*30_000])) })
		})
	}
	each("leaves", 40, func(i int, which string, bad bool) {
		s.visited(fmt.Sprintf("127.0.%d.1", i%2), func(v *visitor) {
			text := content(which, bad, filler[:i%5*10_000]) + ".\r\n"
			v.envelope()
			v.say("DATA\r\n")
			_, _ = io.WriteString(v, text[:len(text)>>(i/4%2)])
			s.heard(which, bad, "none: it left")
			if i%3 == 0 {
				_ = v.Conn.(*net.TCPConn).SetLinger(0)
			}
		})
	})
	each("octets", 10, func(_ int, which string, bad bool) {
		s.visited("127.0.0.3", func(v *visitor) {
			v.envelope()
			for _, c := range []byte(content(which, bad, "")) {
				v.say("BDAT 1\r\n" + string(c))
			}
			s.heard(which, bad, v.say("BDAT 0 LAST\r\n"))
		})
	})
	each("bomb", 6, func(_ int, which string, _ bool) {
		s.visited("127.0.0.4", func(v *visitor) {
			v.hand(s, which, true, "X-Case: "+which+"\r\n"+nested.String())
		})
	})
	for how, from := range map[string]string{"wrapper": "127.0.2.1", "program": "127.0.3.1"} {
		each(how, 10, func(i int, which string, bad bool) {
			s.visited(from, func(v *visitor) { v.hand(s, which, bad, content(which, bad, filler[:i*7200])) })
		})
	}
	each("qmqp", 10, func(i int, which string, bad bool) {
		text := strings.ReplaceAll(content(which, bad, filler[:i*7200]), "\r\n", "\n")
		before, after := wire.QMQPRequest(int64(len(text)), "ann@sender.example", []string{"bob@acme.example"})
		s.heard(which, bad, netstring(s.QMQP, string(before)+text+string(after)))
	})
	each("qmtp", 10, func(i int, which string, bad bool) {
		text := content(which, bad, filler[:i*7200])
		before, after := wire.QMTPPackage(int64(len(text)), "ann@sender.example", []string{"bob@acme.example"})
		s.heard(which, bad, netstring(s.QMTP, string(before)+text+string(after)))
	})
	each("http", 10, func(i int, which string, bad bool) {
		s.heard(which, bad, s.post(content(which, bad, filler[:i*7200])))
	})
	all.Wait()
	for _, way := range peers.Lies {
		if n := s.replies(way); n["250"] != 3 || n["bad: 250"] != 3 {
			t.Errorf("an engine that is %s: %v", way, n)
		}
	}
	for how, refusal := range refusals {
		if n := s.replies(how); n["250"] != 5 || n["bad: "+refusal] != 5 {
			t.Errorf("by %s: %v", how, n)
		}
	}
	if n := s.now("qstream_ingest_scan_verdicts_total"); n == 0 {
		t.Error("no engine was asked")
	}
	s.tell(honest)
	s.settled(3 * time.Minute)
	var f, r int
	eventually(t, func() string {
		return fmt.Sprintf("%d files and %d goroutines, %d and %d before", f, r, files, routines)
	}, func() bool {
		f, r = s.open()
		return f <= files+10*(len(peers.Lies)+2) && r <= routines+80 // connections to engines that are kept
	})
	if left := s.left(); len(left) > 0 {
		t.Errorf("left in the folder for temporary files: %v", left)
	}
	t.Logf("%v; %d and %d files, %d and %d goroutines before and after, %d MiB at most", s.replies(""), files, f, routines, r, s.peak("up"))
}
