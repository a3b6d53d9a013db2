package peers

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// GTUBE is the generic test for unsolicited bulk email, in two halves.
const GTUBE = `XJS*C4JDBQADN1.NSBN3*2IDNEN*` + `GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X`

// Rspamd is a running rspamd with rules of its own: SUBJ_SPAM, of weight 7, for
// a subject with the word SPAM, asks for header changes; TOLD, without a weight,
// tells in its option what it knows of a user's mail.
type Rspamd struct {
	dir  string
	port int
	c    *exec.Cmd
}

// StartRspamd starts one; it needs root, and drops it.
func StartRspamd(t testing.TB) *Rspamd {
	t.Helper()
	d := &Rspamd{dir: folder(t), port: freePort(t)}
	write(t, d.dir, "tld.dat", "com\norg\nexample\n")
	write(t, d.dir, "rules.lua", rspamdRules)
	for _, sub := range []string{"run", "db"} {
		path := filepath.Join(d.dir, sub)
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, 65534, 65534); err != nil {
			t.Fatalf("rspamd needs root: %v", err)
		}
	}
	conf := write(t, d.dir, "rspamd.conf", fmt.Sprintf(rspamdConf, d.dir, d.port, freePort(t)))
	d.c = start(t, filepath.Join(d.dir, "out"), "rspamd", "-f", "-u", "nobody", "-g", "nogroup", "-c", conf)
	waitFor(t, d.Log, func() error { return d.ping() })
	return d
}

func (d *Rspamd) ping() error {
	client := http.Client{Timeout: 5 * time.Second}
	res, err := client.Get("http://" + d.Addr() + "/ping")
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 100))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %q", res.Status, b)
	}
	return err
}

// Addr is the address of its normal worker.
func (d *Rspamd) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(d.port)) }

// Signal reaches the workers, which are children of the process that was started.
func (d *Rspamd) Signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", d.c.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	for rest := string(children); ; {
		var n int
		if _, err := fmt.Sscanf(rest, "%d", &n); err != nil {
			break
		}
		pid = n
		if err := syscall.Kill(pid, s); err != nil {
			t.Fatal(err)
		}
		if s == syscall.SIGSTOP {
			t.Cleanup(func() { _ = syscall.Kill(n, syscall.SIGCONT) })
		}
		rest = rest[len(strconv.Itoa(n))+1:]
	}
	if pid == 0 {
		t.Fatal("rspamd has no worker")
	}
}

// Log is what it has logged so far.
func (d *Rspamd) Log() string {
	log, _ := os.ReadFile(filepath.Join(d.dir, "run", "rspamd.log"))
	out, _ := os.ReadFile(filepath.Join(d.dir, "out"))
	return string(log) + string(out)
}

const rspamdRules = `
rspamd_config:register_symbol{name='SUBJ_SPAM', type='normal', callback=function(t)
  local s = t:get_header('Subject')
  if s and s:find('SPAM') then
    t:insert_result('SUBJ_SPAM', 1.0, s)
    t:set_milter_reply{add_headers={['X-Spam']={value='Yes', order=1}}, remove_headers={['X-Old']=0}}
  end
end}
rspamd_config:register_symbol{name='TOLD', type='normal', callback=function(t)
  if t:get_user() then
    local to = {}
    for _, r in ipairs(t:get_recipients('smtp')) do to[#to + 1] = r.addr end
    t:insert_result('TOLD', 1.0, table.concat({tostring(t:get_ip()), t:get_helo(), t:get_user(),
      t:get_from('smtp')[1].addr, table.concat(to, ',')}, ' '))
  end
end}
`

const rspamdConf = `options {
  pidfile = "%[1]s/run/rspamd.pid"; tempdir = "%[1]s/run"; hs_cache_dir = "%[1]s/db/"; url_tld = "%[1]s/tld.dat"; filters = "";
  rrd = "%[1]s/db/rspamd.rrd"; history_file = "%[1]s/db/history"; control_socket = "%[1]s/run/control.sock mode=0600";
  dns { nameserver = ["127.0.0.1:%[3]d:1"]; timeout = 0.2s; retransmits = 1; }
}
logging { type = "file"; filename = "%[1]s/run/rspamd.log"; level = "notice"; }
lua = "%[1]s/rules.lua";
worker "normal" { bind_socket = "127.0.0.1:%[2]d"; count = 1; }
metric "default" {
  actions { reject = 15; "add header" = 6; greylist = 4; }
  group "t" { symbol "SUBJ_SPAM" { weight = 7; } symbol "TOLD" { weight = 0; } }
}
`
