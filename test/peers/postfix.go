package peers

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// Postfix is a running Postfix that is the last hop of local.test: every
// address goes into one Maildir, except tmp@ (451), perm@ (550) and grey@
// (450), which it refuses at RCPT. It offers STARTTLS and takes 2,000,000
// bytes at most. By QMQP it takes mail for every domain.
type Postfix struct {
	t    testing.TB
	dir  string
	port int
	qmqp int
}

// StartPostfix starts one.
func StartPostfix(t testing.TB) *Postfix {
	t.Helper()
	p := &Postfix{t: t, dir: folder(t), port: freePort(t), qmqp: freePort(t)}
	account, err := user.Lookup("postfix")
	if err != nil {
		t.Fatalf("Postfix is not installed: %v", err)
	}
	uid, _ := strconv.Atoi(account.Uid)
	for name, owner := range map[string]int{"queue": 0, "data": uid, "mail": 65534} {
		if err := os.Mkdir(filepath.Join(p.dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(filepath.Join(p.dir, name), owner, -1); err != nil {
			t.Fatalf("Postfix needs root: %v", err)
		}
	}
	certificate(t, p.dir)
	etc := filepath.Dir(write(t, p.dir, "etc/main.cf", fmt.Sprintf(mainCF, p.dir)))
	write(t, p.dir, "etc/master.cf", fmt.Sprintf(masterCF, p.port, p.qmqp))
	run(t, "/usr/sbin/postfix", "-c", etc, "start")
	t.Cleanup(func() {
		if out, err := try("/usr/sbin/postfix", "-c", etc, "stop"); err != nil {
			t.Errorf("stop Postfix: %v\n%s", err, out)
		}
	})
	greeted(t, "tcp", p.Addr(), filepath.Join(p.dir, "log"))
	return p
}

// Addr is its SMTP address, Port the port of it.
func (p *Postfix) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)) }
func (p *Postfix) Port() int    { return p.port }

// QMQPAddr is where its qmqpd listens.
func (p *Postfix) QMQPAddr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.qmqp)) }

// Mails are the messages in its Maildir, lines ended by LF.
func (p *Postfix) Mails() []string { return mails(p.t, filepath.Join(p.dir, "mail", "inbox")) }

// Log is what it has logged so far.
func (p *Postfix) Log() string {
	b, err := os.ReadFile(filepath.Join(p.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

const mainCF = `compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
maillog_file = %[1]s/log
maillog_file_prefixes = %[1]s
myhostname = nexthop.test
mydestination =
mynetworks = 127.0.0.0/8 [::1]/128
inet_interfaces = loopback-only
smtp_dns_support_level = disabled
smtpd_peername_lookup = no
alias_maps =
message_size_limit = 2000000
virtual_mailbox_domains = local.test
virtual_mailbox_base = %[1]s/mail
virtual_mailbox_maps = static:inbox/
virtual_minimum_uid = 1
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
smtpd_tls_cert_file = %[1]s/cert.pem
smtpd_tls_key_file = %[1]s/key.pem
smtpd_tls_security_level = may
qmqpd_authorized_clients = 127.0.0.1
smtpd_recipient_restrictions = check_recipient_access inline:{
  { tmp@local.test = 451 4.2.0 try later }
  { perm@local.test = 550 5.1.1 no such user }
  { grey@local.test = defer_if_permit greylisted } }, permit_auth_destination, reject
`

const masterCF = `127.0.0.1:%d inet n - n - - smtpd
127.0.0.1:%d inet n - n - - qmqpd
postlog unix-dgram n - n - 1 postlogd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
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
tlsmgr unix - - n 1000? 1 tlsmgr
`

// certificate writes cert.pem and key.pem.
func certificate(t testing.TB, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"nexthop.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, dir, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})))
}
