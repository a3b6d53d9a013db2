package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"qstream/directory"
	"qstream/engine"
	"qstream/engine/engines"
	"qstream/engine/enginetest"
	"qstream/engine/wrapper"
	"qstream/test/peers"
)

// TestMain is the binary itself when it is called by a drop-in's name.
func TestMain(m *testing.M) {
	if name := filepath.Base(os.Args[0]); name == "qmail-queue" || name == "qmail-qmqpc" {
		os.Exit(run(dropIn(os.Args), os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// dropInLink is a link to this binary.
func dropInLink(t *testing.T, name string) string {
	t.Helper()
	self, err := os.Executable()
	path := filepath.Join(t.TempDir(), name)
	if err == nil {
		err = os.Symlink(self, path)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func samples(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../../engine/wrapper/testdata")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func qmailHome(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	err := os.Mkdir(filepath.Join(dir, "control"), 0o755)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "control", "spamdomains"), []byte("acme.example:5\n"), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func wrapped(t *testing.T, cfg wrapper.Config) *wrapper.Engine {
	t.Helper()
	e, err := wrapper.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

const wrappedMail = "From: a@client.example\r\nSubject: x\r\n\r\ntext\r\n"

// TestRuleRunsAWrapper: a connection rule's QMAILQUEUE makes an engine that runs
// the wrapper unchanged, in QMAILHOME, with the drop-in that stands there.
func TestRuleRunsAWrapper(t *testing.T) {
	home := qmailHome(t)
	queue := dropInLink(t, "qmail-queue")
	if err := os.Rename(filepath.Dir(queue), filepath.Join(home, "bin")); err != nil {
		t.Fatal(err)
	}
	docs, err := directory.Parse(directory.File{Name: "x", Data: []byte("kind: rules\nname: smtp\nrules: |\n  192.0.2.1:allow,VIRUSSCAN=\"true\",QMAILHOME=\"" + home +
		"\",QMAILQUEUE=\"" + filepath.Join(samples(t), "qmail-queue-scan") + "\"\n")})
	if err != nil {
		t.Fatal(err)
	}
	s, err := directory.Build(docs)
	if err != nil {
		t.Fatal(err)
	}
	scan := s.SessionScan(directory.ServiceSMTP, s.ConnRules(directory.ServiceSMTP).Rules.All()[0])
	e, err := engines.New(s.Engine(s.Scan(scan.Policy).Engines[0]).Spec)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if v := enginetest.Ask(t, e, wrappedMail); v.Outcome != engine.Clean || len(v.Changes) != 1 || v.Changes[0].Name != "X-Spam-Score" {
		t.Errorf("%+v", v)
	}
}

// TestWrappersReachTheirEngine: the drop-ins hand what a wrapper passes on to
// the engine that called it, and to no server.
func TestWrappersReachTheirEngine(t *testing.T) {
	clean := "VIRUSSCAN=true"
	for _, name := range []string{"qmail-queue", "qmail-qmqpc"} {
		e := wrapped(t, wrapper.Config{Program: filepath.Join(samples(t), "qmail-queue-scan"), Home: qmailHome(t),
			Queue: dropInLink(t, name), Env: []string{clean}, Dir: t.TempDir()})
		v := enginetest.Ask(t, e, wrappedMail)
		if v.Outcome != engine.Clean || len(v.Changes) != 1 || v.Changes[0].Name != "X-Spam-Score" {
			t.Errorf("%s: %+v", name, v)
		}
	}
	// What the drop-in can't take has the exit codes of qmail-queue.
	for script, want := range map[string]string{
		`printf Tb@acme.example >e; $QMAILQUEUE 1<e`:             "exit code 91",
		`printf Fa@client.example >e; $QMAILQUEUE 1<e`:           "exit code 54",
		`head -c 2000 /dev/zero | tr '\0' F >e; $QMAILQUEUE 1<e`: "exit code 11",
		`rm message; $QMAILQUEUE 1<envelope`:                     "exit code 53",
	} {
		e := wrapped(t, wrapper.Config{Program: "/bin/sh", Args: []string{"-c", script}, Queue: dropInLink(t, "qmail-queue"), Dir: t.TempDir()})
		v := enginetest.Ask(t, e, wrappedMail)
		if !strings.HasPrefix(v.Detail, want) && want != "exit code 11" || want == "exit code 11" && v.Outcome != engine.Refused {
			t.Errorf("%s: %+v, want %s", script, v, want)
		}
	}
}

// TestRealWrapper: the sample finds qmail-queue where qmail has it, and
// clamdscan in its path, as on a host of the qmail world.
func TestRealWrapper(t *testing.T) {
	peers.Need(t)
	if out, err := exec.Command("unshare", "-m", "true").CombinedOutput(); err != nil {
		t.Skipf("needs a mount namespace: %v %s", err, out)
	}
	d := peers.StartClamd(t)
	// What is under /var elsewhere is hidden from the wrapper only.
	enter := `mount -t tmpfs none /var && mkdir -p /var/qmail/bin && ln -s "$0" /var/qmail/bin/qmail-queue && unset QMAILQUEUE && exec "$@"`
	for _, sample := range []string{"qmail-queue-scan", "qmail-queue-scan.pl"} {
		e := wrapped(t, wrapper.Config{Program: "/usr/bin/unshare", Home: qmailHome(t), Dir: t.TempDir(), Queue: dropInLink(t, "qmail-queue"),
			Args: []string{"-m", "/bin/sh", "-c", enter, dropInLink(t, "qmail-queue"), filepath.Join(samples(t), sample)},
			Env:  []string{"VIRUSSCAN=clamdscan --config-file=" + d.Config() + " --stream --no-summary -"}})
		if v := enginetest.Ask(t, e, wrappedMail); v.Outcome != engine.Clean || len(v.Changes) == 0 {
			t.Errorf("%s: %+v", sample, v)
		}
		bad := "Subject: bad indeed\r\n\r\n" + peers.EICAR + "\r\n" // the first knows the one, the other the other
		if v := enginetest.Ask(t, e, bad); v.Outcome != engine.Malware {
			t.Errorf("%s: %+v", sample, v)
		}
	}
}
