package peers_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"qstream/test/rig"
)

func TestMain(m *testing.M) { rig.Main(m) }

// apart is a system whose scanner, and deliver, are processes of their own for
// the pool "apart"; all else is in up, with the broker.
type apart struct {
	*rig.System
	t     *testing.T
	inbox string // of all mail
	files string // folder of the engines' files
}

// scanFlags let the edge take mail of 100 MB.
var scanFlags = []string{"--max-size", "100000000", "--pools", "default"}

// apartSite has one tenant in the queue "scanned" of that pool; what else stands
// in the directory comes in front.
const apartSite = `
---
kind: queue
name: scanned
pool: apart
scan: standard
schedule: {steps: [1s]}
---
kind: tenant
name: scanned
domains: [scanned.example]
---
kind: route
name: inbox
match: {domain: "*"}
via: maildir:%s
`

// newApart runs nothing yet.
func newApart(t *testing.T) *apart {
	t.Helper()
	s, err := rig.New("embedded", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return &apart{System: s, t: t, inbox: filepath.Join(s.Work, "inbox"), files: filepath.Join(s.Work, "unpack")}
}

func startApart(t *testing.T, documents func(files string) string) *apart {
	t.Helper()
	a := newApart(t)
	s := a.System
	a.check(os.Mkdir(a.files, 0o700))
	file := filepath.Join(s.Work, "site.yaml")
	a.check(os.WriteFile(file, []byte(documents(a.files)+fmt.Sprintf(apartSite, a.inbox)), 0o600))
	a.check(s.Up(file, scanFlags...))
	var run struct{ Kafka []string }
	text, err := os.ReadFile(filepath.Join(s.Work, "data", "run.json"))
	a.check(err)
	a.check(json.Unmarshal(text, &run))
	for _, role := range []string{"scanner", "deliver"} {
		a.check(s.Start(role, nil, role, "--kafka", run.Kafka[0], "--pools", "apart"))
	}
	return a
}

func (a *apart) check(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}

// hand hands in a message and returns its id.
func (a *apart) hand(content []byte) string { return a.handTo("bob@scanned.example", content) }

func (a *apart) handTo(to string, content []byte) string {
	id, err := rig.Hand(a.SMTP, rig.Message{From: "ann@sender.example", To: to, Content: content}, io.Discard)
	if err != nil {
		a.t.Error(err)
	}
	return id
}

// log is the scanner's.
func (a *apart) log() string {
	b, _ := os.ReadFile(filepath.Join(a.Work, "scanner.log"))
	return string(b)
}

func (a *apart) tail() string { return a.LogTail("scanner") }

// delivered are the mails of the inbox, by the value of the field X-Case.
func (a *apart) delivered() map[string]string {
	a.t.Helper()
	names, err := filepath.Glob(filepath.Join(a.inbox, "new", "*"))
	a.check(err)
	all := map[string]string{}
	for _, name := range names {
		f, err := os.Open(name)
		a.check(err)
		b, err := io.ReadAll(io.LimitReader(f, 4096)) // the header is enough
		_ = f.Close()
		a.check(err)
		if _, rest, ok := strings.Cut(string(b), "\nX-Case: "); ok {
			which, _, _ := strings.Cut(rest, "\n")
			all[strings.TrimSpace(which)] = string(b)
		}
	}
	return all
}

// held is a leg in quarantine.
type held struct {
	MessageID string `json:"message_id"`
	Finding   string `json:"finding"`
}

// quarantined are the findings by message id.
func (a *apart) quarantined() map[string]string {
	a.t.Helper()
	out, errs, err := a.Verb("quarantine", "list", "--json")
	if err != nil && !bytes.Contains(errs, []byte("nothing")) {
		a.t.Logf("quarantine list: %v: %s", err, errs)
	}
	all := map[string]string{}
	for in := json.NewDecoder(bytes.NewReader(out)); ; {
		var h held
		if err := in.Decode(&h); err == io.EOF {
			return all
		} else if err != nil {
			a.t.Fatal(err)
		}
		all[h.MessageID] = h.Finding
	}
}

// metric is the sum of the scanner's samples that begin with a name and labels.
func (a *apart) metric(name string) float64 { return samples(a.Process("scanner").HTTP, name) }

// samples is the sum of a process's samples that begin with a name and labels; 0
// while it doesn't answer.
func samples(addr, name string) (sum float64) {
	r, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		return 0
	}
	defer r.Body.Close()
	for lines := bufio.NewScanner(r.Body); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), name); ok {
			n, _ := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
			sum += n
		}
	}
	return sum
}

// peak is the most memory that a process had, in MiB.
func (a *apart) peak(name string) int {
	a.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.Process(name).PID()))
	a.check(err)
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	var kilobytes int
	_, err = fmt.Sscan(rest, &kilobytes)
	a.check(err)
	return kilobytes >> 10
}

// watchFiles samples what the engines keep on the disk until stop, which tells the
// most in MiB. Its files have no names: the process has them open.
func (a *apart) watchFiles() (stop func() int64) {
	a.t.Helper()
	var most atomic.Int64
	end, ended := make(chan struct{}), make(chan struct{})
	pid := a.Process("scanner").PID()
	go func() {
		defer close(ended)
		for {
			most.Store(max(most.Load(), openIn(pid, a.files)))
			select {
			case <-end:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return func() int64 {
		close(end)
		<-ended
		return most.Load() >> 20
	}
}

// openIn is the size of the files of a folder that a process has open.
func openIn(pid int, folder string) (sum int64) {
	fds := fmt.Sprintf("/proc/%d/fd", pid)
	names, _ := os.ReadDir(fds)
	for _, n := range names {
		link := filepath.Join(fds, n.Name())
		if at, err := os.Readlink(link); err == nil && strings.HasPrefix(at, folder) {
			var st fs.FileInfo
			if st, err = os.Stat(link); err == nil {
				sum += st.Size()
			}
		}
	}
	return sum
}
