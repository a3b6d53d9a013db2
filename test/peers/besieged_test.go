package peers_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"qstream/test/peers"
)

// siege is an up whose clients mean no good.
type siege struct {
	*apart
	temp  string // its folder for temporary files
	home  string // of the programs
	liars map[string]*peers.Liar
	clam  *peers.Clamd

	mu    sync.Mutex
	mails map[string]*fate // by X-Case
}

// fate is what a client heard about a mail.
type fate struct {
	bad   bool
	reply string
	id    string
}

func startSiege(t *testing.T) *siege {
	t.Helper()
	s := &siege{apart: newApart(t), mails: map[string]*fate{}, clam: peers.StartClamd(t), liars: map[string]*peers.Liar{}}
	s.temp, s.home = filepath.Join(s.Work, "temp"), filepath.Join(s.Work, "home")
	s.Env = append(s.Env, "TMPDIR="+s.temp)
	for _, dir := range []string{s.temp, filepath.Join(s.home, "bin")} {
		s.check(os.MkdirAll(dir, 0o755))
	}
	for name, text := range map[string]string{"queue": wrapperScript, "psi": psiScript} {
		s.check(os.WriteFile(filepath.Join(s.home, name), []byte(text), 0o755))
	}
	if _, err := s.DropIns(filepath.Join(s.home, "bin")); err != nil {
		t.Fatal(err)
	}
	rules, engines := "", ""
	for i, way := range peers.Lies {
		s.liars[way] = peers.StartLiar(t, s.clam.Addr())
		engines += fmt.Sprintf(liarSite, way, s.liars[way].Addr())
		rules += fmt.Sprintf("  127.0.1.%d:allow,SCANPOLICY=\"%s\"\n", i+1, way)
	}
	file := filepath.Join(s.Work, "site.yaml")
	text := fmt.Sprintf(siegeSite, s.clam.Addr(), rules, s.home, s.inbox) + engines
	s.check(os.WriteFile(file, []byte(text), 0o600))
	s.check(s.Up(file))
	return s
}

// tell makes all liars answer so.
func (s *siege) tell(way func(liar string) string) {
	for name, l := range s.liars {
		l.Tell(way(name))
	}
}

func lying(way string) string { return way }
func honest(string) string    { return peers.Honest }

const (
	wrapperScript = `#!/bin/sh
m=$(mktemp "$0.XXXXXX") && cat > "$m"
grep -q EICAR "$m" && { rm -f "$m"; exit 32; }
exec < "$m"
rm -f "$m"
exec bin/qmail-queue
`
	psiScript = `#!/bin/sh
grep -q EICAR "$1" && exit 1
exit 0
`
)

// visitor is a client at an address of its own.
type visitor struct {
	net.Conn
	in *bufio.Reader
}

// visit opens a session from an address of this host.
func (s *siege) visit(local string) *visitor {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}, Timeout: 20 * time.Second}
	c, err := d.Dial("tcp", s.SMTP)
	if err != nil {
		s.t.Error(err)
		return nil
	}
	_ = c.SetDeadline(time.Now().Add(3 * time.Minute))
	v := &visitor{c, bufio.NewReader(c)}
	v.reply()
	v.say("EHLO client.example\r\n")
	return v
}

// visited opens a session, and closes it after what is done in it.
func (s *siege) visited(from string, do func(*visitor)) {
	if v := s.visit(from); v != nil {
		do(v)
		_ = v.Close()
	}
}

// reply is the next one, or why there is none.
func (v *visitor) reply() string {
	for {
		line, err := v.in.ReadString('\n')
		if err != nil {
			return "none: " + err.Error()
		}
		if len(line) < 4 || line[3] == ' ' {
			return strings.TrimSpace(line)
		}
	}
}

// say sends lines and tells the reply to the last.
func (v *visitor) say(text string) string {
	if _, err := io.WriteString(v, text); err != nil {
		return "none: " + err.Error()
	}
	return v.reply()
}

// envelope says who it is from and to.
func (v *visitor) envelope() {
	v.say("MAIL FROM:<ann@sender.example>\r\n")
	v.say("RCPT TO:<bob@acme.example>\r\n")
}

// heard records what became of a mail, as its client knows it.
func (s *siege) heard(which string, bad bool, reply string) {
	f := &fate{bad: bad, reply: reply}
	if strings.HasPrefix(reply, "250") {
		words := strings.Fields(reply)
		f.id = words[len(words)-1]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mails[which] = f
}

// content is a mail's, with EICAR in it or not.
func content(which string, bad bool, more string) string {
	text := "X-Case: " + which + "\r\nSubject: siege\r\n\r\n"
	if bad {
		text += peers.EICAR + "\r\n"
	}
	return text + more
}

// hand hands a mail in by DATA.
func (v *visitor) hand(s *siege, which string, bad bool, text string) {
	v.envelope()
	r := v.say("DATA\r\n")
	if strings.HasPrefix(r, "354") {
		r = v.say(text + ".\r\n")
	}
	s.heard(which, bad, r)
}

// replies are what was heard of the mails whose case begins so, counted.
func (s *siege) replies(prefix string) map[string]int {
	n := map[string]int{}
	s.mu.Lock()
	defer s.mu.Unlock()
	for which, f := range s.mails {
		if strings.HasPrefix(which, prefix) {
			r := f.reply
			if strings.HasPrefix(r, "250") {
				r = "250"
			}
			if f.bad {
				r = "bad: " + r
			}
			n[r]++
		}
	}
	return n
}

// settled waits until all that was accepted met its fate, and tells of what
// took the wrong way.
func (s *siege) settled(within time.Duration) {
	s.t.Helper()
	began := time.Now()
	for {
		arrived, caught := s.delivered(), s.quarantined()
		var open, passed []string
		accepted, delivered, held := 0, 0, 0
		s.mu.Lock()
		for which, f := range s.mails {
			_, came := arrived[which]
			if came && f.bad {
				passed = append(passed, which+": "+f.reply)
			}
			if f.id == "" {
				if came && !f.bad && !strings.HasPrefix(f.reply, "none") && !strings.HasPrefix(f.reply, "451") {
					s.t.Errorf("%s was delivered though the client heard %q", which, f.reply)
				}
				continue
			}
			accepted++
			switch _, isHeld := caught[f.id]; {
			case came:
				delivered++
			case isHeld:
				held++
			default:
				open = append(open, which+" "+f.id)
			}
		}
		s.mu.Unlock()
		if len(passed) > 0 {
			s.t.Fatalf("passed: %v", passed)
		}
		if len(open) == 0 {
			s.t.Logf("settled after %.1f s: %d accepted, %d delivered, %d held", time.Since(began).Seconds(), accepted, delivered, held)
			return
		}
		if time.Since(began) > within {
			s.t.Errorf("%d of %d are open after %v: %v", len(open), accepted, within, open[:min(5, len(open))])
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// open is how many files and goroutines it has.
func (s *siege) open() (files, routines int) {
	fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.Process("up").PID()))
	return len(fds), int(s.now("go_goroutines"))
}

// left are the files in its folders for temporary files, but for their locks.
func (s *siege) left() (all []string) {
	_ = filepath.WalkDir(s.temp, func(path string, d fs.DirEntry, _ error) error {
		if d != nil && !d.IsDir() && d.Name() != "lock" {
			all = append(all, path)
		}
		return nil
	})
	return all
}

// now is the sum of up's samples that begin with a name and labels.
func (s *siege) now(name string) float64 { return samples(s.Process("up").HTTP, name) }

// netstring hands in what a netstring protocol wants and tells the answer.
func netstring(addr, text string) string {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return "none: " + err.Error()
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(c, text); err != nil {
		return "none: " + err.Error()
	}
	buf := make([]byte, 1000)
	n, err := c.Read(buf)
	if n == 0 {
		return fmt.Sprint("none: ", err)
	}
	_, said, _ := strings.Cut(string(buf[:n]), ":")
	said = strings.TrimSuffix(said, ",")
	if strings.HasPrefix(said, "K") {
		words := strings.Fields(said)
		return "250 " + words[len(words)-1]
	}
	return said
}

// post hands a message in by HTTP, as a program of this host.
func (s *siege) post(text string) string {
	to := "http://" + s.Process("up").HTTP + "/v1/messages?from=ann@sender.example&to=bob@acme.example"
	r, err := http.Post(to, "message/rfc822", strings.NewReader(text))
	if err != nil {
		return "none: " + err.Error()
	}
	defer r.Body.Close()
	var said struct {
		ID   string
		SMTP struct{ Enhanced string }
	}
	if err := json.NewDecoder(r.Body).Decode(&said); err != nil {
		return "none: " + err.Error()
	}
	if r.StatusCode == http.StatusAccepted {
		return "250 " + said.ID
	}
	return fmt.Sprint(r.StatusCode, " ", said.SMTP.Enhanced)
}
