package peers

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Dovecot is a running LMTP server for users of its list; the user "full" has
// a quota of ten bytes, so that it is refused after the content.
type Dovecot struct {
	t    testing.TB
	dir  string
	port int
}

// StartDovecot starts one for the users, and for "full".
func StartDovecot(t testing.TB, users ...string) *Dovecot {
	t.Helper()
	d := &Dovecot{t: t, dir: folder(t), port: freePort(t)}
	var list strings.Builder
	for _, u := range append(users, "full") {
		extra := ""
		if u == "full" {
			extra = "userdb_quota_rule=*:bytes=10"
		}
		fmt.Fprintf(&list, "%s::65534:65534::%s/mail/%s::%s\n", u, d.dir, u, extra)
	}
	write(t, d.dir, "users", list.String())
	if err := os.Mkdir(filepath.Join(d.dir, "mail"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(d.dir, "mail"), 65534, -1); err != nil {
		t.Fatalf("Dovecot with several users needs root: %v", err)
	}
	conf := write(t, d.dir, "dovecot.conf", fmt.Sprintf(dovecotConf, d.dir, d.port))
	c := exec.Command("/usr/sbin/dovecot", "-F", "-c", conf)
	if err := c.Start(); err != nil {
		t.Fatalf("Dovecot is not installed: %v", err)
	}
	t.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGTERM)
		ended := make(chan struct{})
		go func() { _ = c.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = c.Process.Kill()
			<-ended
		}
	})
	greeted(t, "tcp", d.Addr(), filepath.Join(d.dir, "log"))
	return d
}

// Addr is its LMTP address, Port the port of it, Socket its Unix socket.
func (d *Dovecot) Addr() string   { return net.JoinHostPort("127.0.0.1", strconv.Itoa(d.port)) }
func (d *Dovecot) Port() int      { return d.port }
func (d *Dovecot) Socket() string { return filepath.Join(d.dir, "lmtp.sock") }

// Mails are a user's messages, lines ended by LF or CRLF as Dovecot likes.
func (d *Dovecot) Mails(user string) []string { return mails(d.t, filepath.Join(d.dir, "mail", user)) }

// Log is what it has logged so far.
func (d *Dovecot) Log() string {
	b, err := os.ReadFile(filepath.Join(d.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

const dovecotConf = `base_dir = %[1]s/run
state_dir = %[1]s/state
log_path = %[1]s/log
protocols = lmtp
ssl = no
default_internal_user = nobody
default_internal_group = nogroup
default_login_user = nobody
first_valid_uid = 1
first_valid_gid = 1
mail_location = maildir:%[1]s/mail/%%n
mail_plugins = quota
service anvil {
  chroot =
}
service stats {
  chroot =
}
service lmtp {
  chroot =
  inet_listener lmtp {
    address = 127.0.0.1
    port = %[2]d
  }
  unix_listener %[1]s/lmtp.sock {
    mode = 0666
  }
}
userdb {
  driver = passwd-file
  args = username_format=%%n %[1]s/users
}
passdb {
  driver = passwd-file
  args = username_format=%%n %[1]s/users
}
plugin {
  quota = maildir:User quota
}
`
