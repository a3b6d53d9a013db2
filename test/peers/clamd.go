package peers

import (
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// EICAR is the test file of the European Institute for Computer Antivirus
// Research, in two halves so that this source isn't taken for one.
const EICAR = `X5O!P%@AP[4\PZX54(P^)7CC)7}$` + `EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*`

// Clamd is a running ClamAV daemon that knows EICAR, and nothing else, as
// Test.EICAR.UNOFFICIAL.
type Clamd struct {
	t    testing.TB
	dir  string
	port int
	c    *exec.Cmd
}

// StartClamd starts one, with StreamMaxLength and MaxFileSize of 5 MB unless
// settings say otherwise: clamd takes the first of two.
func StartClamd(t testing.TB, settings ...string) *Clamd {
	t.Helper()
	d := &Clamd{t: t, dir: folder(t), port: freePort(t)}
	d.Signatures(fmt.Sprintf("Test.EICAR:0:*:%s\n", hex.EncodeToString([]byte(EICAR))))
	conf := write(t, d.dir, "clamd.conf", strings.Join(settings, "\n")+"\n"+fmt.Sprintf(clamdConf, d.dir, d.port))
	d.run(conf)
	return d
}

func (d *Clamd) run(conf string) {
	d.t.Helper()
	d.c = start(d.t, filepath.Join(d.dir, "out"), "clamd", "--config-file="+conf)
	waitFor(d.t, d.Log, func() error {
		if answer := d.Command("PING"); answer != "PONG" {
			return fmt.Errorf("it answers PING with %q", answer)
		}
		return nil
	})
}

// Kill ends it at once, and Again starts it anew where it was.
func (d *Clamd) Kill() {
	d.t.Helper()
	if err := d.c.Process.Kill(); err != nil {
		d.t.Fatal(err)
	}
}

// Again starts it after Kill.
func (d *Clamd) Again() { d.t.Helper(); d.run(d.Config()) }

// Addr is its TCP address, Socket its Unix socket.
func (d *Clamd) Addr() string   { return net.JoinHostPort("127.0.0.1", strconv.Itoa(d.port)) }
func (d *Clamd) Socket() string { return filepath.Join(d.dir, "clamd.sock") }

// Config is its configuration's path, for clamdscan.
func (d *Clamd) Config() string { return filepath.Join(d.dir, "clamd.conf") }

// Process is the daemon's, for signals.
func (d *Clamd) Process() *os.Process { return d.c.Process }

// Signatures replaces its set, in the format of .ndb files; RELOAD makes it
// read them.
func (d *Clamd) Signatures(text string) { write(d.t, d.dir, "db/local.ndb", text) }

// Command gives it a command in a connection of its own and returns the answer.
func (d *Clamd) Command(name string) string {
	c, err := net.DialTimeout("tcp", d.Addr(), time.Second)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, "z"+name+"\x00"); err != nil {
		return err.Error()
	}
	b, err := io.ReadAll(io.LimitReader(c, 4096))
	if err != nil {
		return err.Error()
	}
	return strings.TrimRight(string(b), "\x00")
}

// Log is what it has logged so far.
func (d *Clamd) Log() string {
	log, _ := os.ReadFile(filepath.Join(d.dir, "clamd.log"))
	out, _ := os.ReadFile(filepath.Join(d.dir, "out"))
	return string(log) + string(out)
}

const clamdConf = `DatabaseDirectory %[1]s/db
LocalSocket %[1]s/clamd.sock
TCPSocket %[2]d
TCPAddr 127.0.0.1
PidFile %[1]s/clamd.pid
LogFile %[1]s/clamd.log
TemporaryDirectory %[1]s
Foreground yes
StreamMaxLength 5M
MaxFileSize 5M
MaxScanSize 20M
AlertEncrypted yes
AlertExceedsMax yes
`
