package clamd_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"qstream/engine"
	"qstream/engine/clamd"
	"qstream/engine/enginetest"
	"qstream/test/peers"
)

func real(t *testing.T, network, address string) *clamd.Client {
	t.Helper()
	c, err := clamd.New(clamd.Config{Network: network, Address: address, Patience: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func zipped(t *testing.T, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	f, err := w.Create("inside")
	if err == nil {
		_, err = f.Write(content)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// carrying is a message with an attachment.
func carrying(b []byte) string {
	coded := base64.StdEncoding.EncodeToString(b)
	var lines strings.Builder
	for len(coded) > 0 {
		n := min(76, len(coded))
		lines.WriteString(coded[:n] + "\r\n")
		coded = coded[n:]
	}
	return "From: a@client.example\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntext\r\n" +
		"--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n" + lines.String() + "--b--\r\n"
}

func TestRealClamd(t *testing.T) {
	peers.Need(t)
	d := peers.StartClamd(t)
	eicar := []byte(peers.EICAR)
	forwarded := "From: b@client.example\r\nMIME-Version: 1.0\r\nContent-Type: message/rfc822\r\n\r\n" + carrying(eicar)
	for name, c := range map[string]*clamd.Client{"tcp": real(t, "tcp", d.Addr()), "unix": real(t, "unix", d.Socket())} {
		for what, test := range map[string]struct {
			mail    string
			outcome engine.Outcome
			reason  engine.Reason
		}{
			"nothing":           {carrying([]byte("nothing here")), engine.Clean, engine.NoReason},
			"plain":             {"Subject: x\r\n\r\n" + peers.EICAR + "\r\n", engine.Malware, engine.NoReason},
			"base64":            {carrying(eicar), engine.Malware, engine.NoReason},
			"zip in zip":        {carrying(zipped(t, zipped(t, eicar))), engine.Malware, engine.NoReason},
			"forwarded":         {forwarded, engine.Malware, engine.NoReason},
			"larger than taken": {"Subject: x\r\n\r\n" + strings.Repeat("some text\r\n", 800_000), engine.Unscannable, engine.TooLarge},
		} {
			v := enginetest.Ask(t, c, test.mail)
			if v.Outcome != test.outcome || v.Reason != test.reason {
				t.Errorf("%s by %s: %+v", what, name, v)
			}
			if v.Outcome == engine.Malware && v.Name != "Test.EICAR.UNOFFICIAL" {
				t.Errorf("%s by %s: found %q", what, name, v.Name)
			}
		}
		s, err := c.State(t.Context())
		if err != nil || !strings.HasPrefix(s.Software, "ClamAV 1.") || s.Signatures != "" {
			t.Errorf("state by %s: %+v, %v", name, s, err)
		}
	}
}

// TestRealClamdSideBySide: sessions carry no one's verdict to another.
func TestRealClamdSideBySide(t *testing.T) {
	peers.Need(t)
	d := peers.StartClamd(t)
	c := real(t, "unix", d.Socket())
	good, bad := carrying([]byte(strings.Repeat("good ", 20_000))), carrying([]byte(peers.EICAR))
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 25 {
				text, want := good, engine.Clean
				if (w+i)%2 == 0 {
					text, want = bad, engine.Malware
				}
				if v := enginetest.Ask(t, c, text); v.Outcome != want {
					t.Errorf("%+v", v)
				}
			}
		})
	}
	wg.Wait()
}

// TestRealClamdReloads: a scan during RELOAD has a verdict, and the new set is
// in force after it.
func TestRealClamdReloads(t *testing.T) {
	peers.Need(t)
	d := peers.StartClamd(t)
	c := real(t, "tcp", d.Addr())
	mail := carrying([]byte("a new plague"))
	if v := enginetest.Ask(t, c, mail); v.Outcome != engine.Clean {
		t.Fatalf("before: %+v", v)
	}
	d.Signatures("Test.New:0:*:61206e657720706c61677565\n")
	if answer := d.Command("RELOAD"); answer != "RELOADING" {
		t.Fatalf("RELOAD is answered %q", answer)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		v := enginetest.Ask(t, c, mail)
		if v.Outcome == engine.Malware {
			break
		}
		if v.Outcome != engine.Clean || time.Now().After(end) {
			t.Fatalf("while it reloads: %+v\n%s", v, d.Log())
		}
	}
}

// TestRealClamdHangs: a frozen clamd takes connections and content, and says
// nothing.
func TestRealClamdHangs(t *testing.T) {
	peers.Need(t)
	d := peers.StartClamd(t)
	c := real(t, "tcp", d.Addr())
	if v := enginetest.Ask(t, c, "Subject: x\r\n\r\n"); v.Outcome != engine.Clean {
		t.Fatalf("%+v", v)
	}
	if err := d.Process().Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for _, content := range []io.Reader{strings.NewReader("Subject: x\r\n\r\n"), strings.NewReader(strings.Repeat("x", 4<<20))} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		v := c.Scan(ctx, content, enginetest.Facts(0))
		cancel()
		if v.Outcome != engine.Failed || v.Reason != engine.Late {
			t.Errorf("frozen: %+v", v)
		}
	}
	if err := d.Process().Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if v := enginetest.Ask(t, c, "Subject: x\r\n\r\n"); v.Outcome != engine.Clean {
		t.Errorf("thawed: %+v", v)
	}
	if err := d.Process().Kill(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		v := enginetest.Ask(t, c, "Subject: x\r\n\r\n")
		if v.Outcome == engine.Failed && v.Reason == engine.Unreachable {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("killed: %+v", v)
		}
	}
}

// TestRealClamdWithoutRoom: clamd passes over a part that it has no room for and
// says OK; asked for the part it tells.
func TestRealClamdWithoutRoom(t *testing.T) {
	peers.Need(t)
	folder := peers.Small(t)
	d := peers.StartClamd(t, "TemporaryDirectory "+folder)
	mail := carrying(append(make([]byte, 600<<10), peers.EICAR...)) // 840 KB
	whole := real(t, "tcp", d.Addr())
	t.Logf("as a whole it is %+v", enginetest.Ask(t, whole, mail))
	c, err := clamd.New(clamd.Config{Network: "tcp", Address: d.Addr(), Patience: 20 * time.Second, Parts: true, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if v := enginetest.Ask(t, c, mail); v.Outcome != engine.Failed || v.Reason != engine.Trouble {
		t.Errorf("with its parts it is %+v", v)
	}
	if v := enginetest.Ask(t, c, carrying([]byte(peers.EICAR))); v.Outcome != engine.Malware {
		t.Errorf("one that there is room for is %+v", v)
	}
}
