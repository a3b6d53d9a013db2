package peer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"qstream/test/port"
)

// daemons is where Debian keeps Postfix's programs.
const daemons = "/usr/lib/postfix/sbin"

// Postfix is a Postfix under measurement, with a configuration, queue and log
// of its own. What concerns its queue keeps its default.
type Postfix struct {
	Site     Site
	Settings []string // further lines of main.cf

	dir    string
	addr   string
	own    *group
	master *exec.Cmd
	ended  chan struct{}
}

// Name is "postfix".
func (p *Postfix) Name() string { return "postfix" }

// Addr is where it takes SMTP.
func (p *Postfix) Addr() string { return p.addr }

// Start makes the configuration and runs the master in the foreground.
func (p *Postfix) Start(ctx context.Context) error {
	if err := p.start(ctx); err != nil {
		return errors.Join(fmt.Errorf("start postfix: %w", err), p.Stop())
	}
	return nil
}

func (p *Postfix) start(ctx context.Context) (err error) {
	if p.dir, err = workDir("postfix"); err != nil {
		return err
	}
	if p.addr, err = port.FreeAddr(); err != nil {
		return err
	}
	if err := p.configure(); err != nil {
		return err
	}
	if p.own, err = newGroup(); err != nil {
		return err
	}
	// The master is run in the foreground by a shell that has entered the
	// control group, so that no child is born outside it.
	p.master = exec.Command("/bin/sh", "-c", `echo $$ >"$1/cgroup.procs" && exec `+daemons+`/master -c "$2" -d`,
		"sh", p.own.dir, p.etc())
	log, err := os.Create(p.file("master.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	p.master.Stdout, p.master.Stderr = log, log
	p.master.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setsid: true}
	if err := p.launch(); err != nil {
		return err
	}
	return p.greeted(ctx)
}

// launch starts the master from a thread that lives as long as it does, since
// the signal at a parent's death follows the thread.
func (p *Postfix) launch() error {
	begun, ended, cmd := make(chan error, 1), make(chan struct{}), p.master
	go func() {
		runtime.LockOSThread()
		defer close(ended)
		err := cmd.Start()
		begun <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	p.ended = ended
	return <-begun
}

// configure writes main.cf, master.cf and the transports, and lets Postfix
// make its queue.
func (p *Postfix) configure() error {
	owner, err := user.Lookup("postfix")
	if err != nil {
		return fmt.Errorf("not installed: %w", err)
	}
	uid, err := strconv.Atoi(owner.Uid)
	if err != nil {
		return err
	}
	for _, sub := range []string{"etc", "queue", "data"} {
		if err := os.Mkdir(p.file(sub), 0o755); err != nil {
			return err
		}
	}
	if err := os.Chown(p.file("data"), uid, -1); err != nil {
		return err
	}
	for name, text := range map[string]string{
		"etc/main.cf":    fmt.Sprintf(mainCF, p.dir) + strings.Join(p.Settings, "\n") + "\n",
		"etc/master.cf":  fmt.Sprintf(masterCF, p.addr),
		"etc/transports": p.Site.transports(),
	} {
		if err := os.WriteFile(p.file(name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	// "check" makes the queue's folders.
	if out, err := exec.Command("/usr/sbin/postfix", "-c", p.etc(), "check").CombinedOutput(); err != nil {
		return fmt.Errorf("check: %w\n%s", err, out)
	}
	return nil
}

func (p *Postfix) file(name string) string { return filepath.Join(p.dir, name) }
func (p *Postfix) etc() string             { return p.file("etc") }

// greeted waits for a 220: that the master listens proves nothing.
func (p *Postfix) greeted(ctx context.Context) error {
	var last error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		if last = greeting(p.addr); last == nil {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("ended: %s", tail(p.file("master.log")))
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return fmt.Errorf("no greeting: %w", last)
}

func greeting(addr string) error {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(line, "220") {
		return fmt.Errorf("greeted by %q", line)
	}
	_, err = c.Write([]byte("QUIT\r\n"))
	return err
}

// Stop ends the master by its process id, then what is left in its group.
func (p *Postfix) Stop() error {
	var errs []error
	if p.ended != nil && p.master.Process != nil {
		_ = p.master.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.ended:
		case <-time.After(10 * time.Second):
			_ = p.master.Process.Kill()
			<-p.ended
		}
	}
	if p.own != nil {
		errs = append(errs, p.own.close())
	}
	errs = append(errs, os.RemoveAll(p.dir))
	p.dir, p.own, p.master, p.ended = "", nil, nil, nil
	return errors.Join(errs...)
}

// Usage is what it has used since its start.
func (p *Postfix) Usage() (u Usage, err error) {
	u.CPU, err = p.own.cpu()
	u.Memory = p.own.peak.Load()
	return u, err
}

// Log is the end of its mail log.
func (p *Postfix) Log() string { return tail(p.file("log")) }

// mainCF has what a relay on loopback needs. The largest message is as large
// as qstream's default.
const mainCF = `compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
maillog_file = %[1]s/log
maillog_file_prefixes = %[1]s
myhostname = hub.example
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = loopback-only
inet_protocols = ipv4
alias_maps =
message_size_limit = 78643200
transport_maps = texthash:%[1]s/etc/transports
`

// masterCF is Debian's, without chroot.
const masterCF = `%s inet n - n - - smtpd
postlog unix-dgram n - n - 1 postlogd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
`
