package peers

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// StartOpenDKIM starts the milter that signs mail of client.example from
// loopback, and returns its TCP address.
func StartOpenDKIM(t testing.TB) string {
	t.Helper()
	dir, port := folder(t), freePort(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "key", string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})))
	conf := write(t, dir, "opendkim.conf", fmt.Sprintf(`Socket inet:%d@127.0.0.1
Mode sv
Domain client.example
Selector s1
KeyFile %s/key
Background no
UserID nobody
Nameservers 127.0.0.1
RequireSafeKeys no
InternalHosts 127.0.0.1
`, port, dir))
	start(t, filepath.Join(dir, "out"), "opendkim", "-f", "-x", conf)
	return listening(t, port, filepath.Join(dir, "out"))
}

// StartMilter starts a milter of Python's, and returns its TCP address. It obeys
// the subject: "refuse", "put off", "discard", "hold" and "change"; and it
// refuses the recipient no@acme.example.
func StartMilter(t testing.TB) string {
	t.Helper()
	dir, port := folder(t), freePort(t)
	script := write(t, dir, "filter.py", pythonMilter)
	start(t, filepath.Join(dir, "out"), "/usr/bin/python3", script, fmt.Sprint(port))
	return listening(t, port, filepath.Join(dir, "out"))
}

func listening(t testing.TB, port int, out string) string {
	t.Helper()
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	waitFor(t, func() string { b, _ := os.ReadFile(out); return string(b) }, func() error {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			err = c.Close()
		}
		return err
	})
	return addr
}

const pythonMilter = `import sys, Milter

class M(Milter.Base):
    def envfrom(self, f, *args):
        self.subject, self.size, self.ended = '', 0, False
        return Milter.CONTINUE
    def envrcpt(self, to, *args):
        if to == '<no@acme.example>':
            self.setreply('550', '5.7.1', 'not this one')
            return Milter.REJECT
        return Milter.CONTINUE
    def header(self, name, value):
        if name == 'Subject':
            self.subject = value
        return Milter.CONTINUE
    def body(self, chunk):
        self.size += len(chunk)
        return Milter.CONTINUE
    def eom(self):
        if self.subject == 'refuse':
            self.setreply('554', '5.6.0', 'so it says')
            return Milter.REJECT
        if self.subject == 'put off':
            return Milter.TEMPFAIL
        if self.subject == 'discard':
            return Milter.DISCARD
        if self.subject == 'hold':
            self.quarantine('held for a look')
        if self.subject == 'change':
            self.addheader('X-Size', str(self.size))
            self.addheader('X-First', 'i', 0)
            self.chgheader('Subject', 1, 'changed\n more')
            self.chgheader('X-Old', 1, '')
        return Milter.CONTINUE

Milter.factory = M
Milter.set_flags(Milter.ADDHDRS | Milter.CHGHDRS | Milter.QUARANTINE)
Milter.runmilter('test', 'inet:%s@127.0.0.1' % sys.argv[1], 30)
`
