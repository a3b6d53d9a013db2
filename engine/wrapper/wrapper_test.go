package wrapper_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"qstream/engine"
	"qstream/engine/enginetest"
	"qstream/engine/process"
	"qstream/engine/wrapper"
	"qstream/mail"
)

// TestMain is the drop-in for qmail-queue when it is called by that name.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) != "qmail-queue" {
		goleak.VerifyTestMain(m)
	}
	err := wrapper.Collect(os.Getenv(wrapper.FolderVariable), os.Stdin, func() (string, []string, error) {
		b, err := io.ReadAll(os.Stdout)
		all := strings.Split(string(b), "\x00")
		if err != nil || len(all) < 2 || all[len(all)-2] != "" {
			return "", nil, fmt.Errorf("no envelope: %q, %v", b, err)
		}
		var to []string
		for _, a := range all[1 : len(all)-2] {
			to = append(to, a[1:])
		}
		return all[0][1:], to, nil
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(53)
	}
}

// queue is the drop-in's path.
func queue(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "qmail-queue")
	if err := os.Symlink(must(filepath.Abs(os.Args[0]))(t), path); err != nil {
		t.Fatal(err)
	}
	return path
}

func must(s string, err error) func(*testing.T) string {
	return func(t *testing.T) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "wrapper")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// scanner is an engine whose files have to be gone when it is closed.
func scanner(t *testing.T, cfg wrapper.Config) *wrapper.Engine {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	if cfg.Queue == "" {
		cfg.Queue = queue(t)
	}
	cfg.Env = append(cfg.Env, "GORACE=atexit_sleep_ms=0") // the drop-in here is this test
	e, err := wrapper.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(cfg.Dir); len(left) > 0 {
			t.Errorf("files are left: %v, %v", left, err)
		}
	})
	return e
}

// home is a qmail home with thresholds.
func home(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "control"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "control", "spamdomains"), []byte("other.example:1\nacme.example:20\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func sample(t *testing.T, name string) string {
	t.Helper()
	return must(filepath.Abs(filepath.Join("testdata", name)))(t)
}

// shell is the sample in sh, with scanners of the test.
func shell(t *testing.T) wrapper.Config {
	return wrapper.Config{Program: sample(t, "qmail-queue-scan"), Home: home(t), Env: []string{
		"VIRUSSCAN=" + script(t, "! grep -q '^"+enginetest.Bad+"$'"), "SPAMSCAN=" + script(t, "grep -c viagra || true"), "TMPDIR=" + t.TempDir()}}
}

func TestSuite(t *testing.T) {
	failing := func(text string, reason engine.Reason) enginetest.Failing {
		return enginetest.Failing{Reason: reason, New: func(t *testing.T) engine.Engine {
			return scanner(t, wrapper.Config{Program: script(t, text)})
		}}
	}
	late := failing(`trap "" TERM; sleep 1000 & wait; sleep 1000`, engine.Late)
	late.New = func(t *testing.T) engine.Engine {
		return scanner(t, wrapper.Config{Program: script(t, `trap "" TERM; sleep 1000 & wait; sleep 1000`), Time: enginetest.Short})
	}
	// Nothing is read, and the outputs are closed at once.
	cases := map[string]enginetest.Failing{
		"closes everything": failing("exec <&- >&- 2>&- 6>&-; exit 0", engine.Broken),
		"passes nothing on": failing("cat >/dev/null", engine.Broken),
		"a bug":             failing("exit 81", engine.Trouble),
		"temporary":         failing("exit 71", engine.Trouble),
		"custom, no text":   failing("exit 82", engine.Trouble),
		"custom, later":     failing("printf 'Zlater' >&6; exit 82", engine.Trouble),
		"crashes":           failing("kill -SEGV $$", engine.Trouble),
		"floods":            failing("yes >&2", engine.Trouble),
		"hangs":             late,
		"twice":             failing(`cp /dev/stdin m; cat <&1 >e; $QMAILQUEUE <m 1<e; $QMAILQUEUE <m 1<e; exit 0`, engine.Broken),
		"another body":      failing(`(cat; echo more) | $QMAILQUEUE 1<envelope`, engine.Broken),
		"a shorter body":    failing(`head -c 50000 | $QMAILQUEUE 1<envelope`, engine.Broken),
		"half an envelope":  failing(`printf 'Fsender@client.example\0Tann@acme.example\0' >e; $QMAILQUEUE 1<e; exit 0`, engine.Broken),
		"fewer recipients":  failing(`printf 'Fsender@client.example\0Tann@acme.example\0\0' >e; $QMAILQUEUE 1<e`, engine.Broken),
		"more recipients":   failing(`printf 'Fsender@client.example\0Tann@acme.example\0Tbob@acme.example\0Teve@client.example\0\0' >e; $QMAILQUEUE 1<e`, engine.Broken),
		"another sender":    failing(`printf 'F\0Tann@acme.example\0Tbob@acme.example\0\0' >e; $QMAILQUEUE 1<e`, engine.Broken),
		"much more":         failing(`(cat; head -c 3000000 /dev/zero) | $QMAILQUEUE 1<envelope`, engine.Trouble),
		"no field":          failing(`(echo no field; cat) | $QMAILQUEUE 1<envelope`, engine.Broken),
		"a huge header":     failing(`(echo "X: $(head -c 200000 /dev/zero | tr '\0' x)"; cat) | $QMAILQUEUE 1<envelope`, engine.Broken),
		"many fields":       failing(`(i=0; while [ $i -lt 200 ]; do i=$((i+1)); echo "X: $i"; done; cat) | $QMAILQUEUE 1<envelope`, engine.Broken),
		"not there": {Reason: engine.Unreachable, New: func(t *testing.T) engine.Engine {
			return scanner(t, wrapper.Config{Program: "/nonexistent/wrapper"})
		}},
		"no home": {Reason: engine.Unreachable, New: func(t *testing.T) engine.Engine {
			return scanner(t, wrapper.Config{Program: "/bin/true", Home: "/nonexistent"})
		}},
		"qmail-queue isn't there": {Reason: engine.Trouble, New: func(t *testing.T) engine.Engine {
			return scanner(t, wrapper.Config{Program: script(t, "$QMAILQUEUE"), Queue: "/nonexistent/qmail-queue"})
		}},
	}
	enginetest.Run(t, enginetest.Maker{
		Own:     func(t *testing.T) engine.Engine { return scanner(t, shell(t)) },
		Failing: cases,
	})
}

const plain = "From: a@client.example\r\nSubject: x\r\nTo: b@acme.example\r\n\r\ntext\r\n"

func TestSamples(t *testing.T) {
	added := func(kind engine.ChangeKind, index int, name, value string) engine.Change {
		return engine.Change{Kind: kind, Index: index, Name: name, Value: value}
	}
	subject := func(s string) string { return strings.Replace(plain, "Subject: x", "Subject: "+s, 1) }
	perl := wrapper.Config{Program: sample(t, "qmail-queue-scan.pl")}
	if _, err := exec.LookPath("perl"); err != nil {
		t.Log("no perl here")
		perl.Program = ""
	}
	for name, test := range map[string]struct {
		cfg  wrapper.Config
		mail string
		want engine.Verdict
	}{
		"sh, clean": {shell(t), plain, engine.Verdict{Outcome: engine.Clean, Changes: []engine.Change{
			added(engine.InsertField, 0, "X-Spam-Score", "0 (of 20)")}}},
		"sh, virus": {shell(t), subject("bad indeed"), engine.Verdict{Outcome: engine.Malware, Advice: engine.Refuse, Name: "infected", Detail: "virus",
			Status: mail.Status{Code: 554, Enhanced: "5.7.1", Text: "virus"}}},
		"sh, spam": {shell(t), plain + strings.Repeat("viagra\r\n", 20), engine.Verdict{Outcome: engine.Spam, Advice: engine.Refuse, Detail: "spam",
			Status: mail.Status{Code: 554, Enhanced: "5.7.1", Text: "spam"}}},
		"sh, almost spam": {shell(t), plain + strings.Repeat("viagra\r\n", 19), engine.Verdict{Outcome: engine.Clean, Changes: []engine.Change{
			added(engine.InsertField, 0, "X-Spam-Score", "19 (of 20)")}}},
		"perl, clean": {perl, plain, engine.Verdict{Outcome: engine.Clean, Changes: []engine.Change{
			added(engine.InsertField, 1, "Subject", "[checked] x"), added(engine.DeleteField, 1, "Subject", ""),
			added(engine.AddField, 3, "X-Qmail-Scanner", "passed;\r\n\tby a test")}}},
		"perl, virus": {perl, subject("bad indeed"), engine.Verdict{Outcome: engine.Malware, Advice: engine.Refuse, Name: "infected",
			Detail: "infected with a test", Status: mail.Status{Code: 554, Enhanced: "5.7.1", Text: "infected with a test"}}},
		"perl, custom": {perl, subject("custom"), engine.Verdict{Outcome: engine.Refused, Advice: engine.Refuse,
			Detail: "no such content here (#5.7.1)", Status: mail.Status{Code: 554, Enhanced: "5.7.1", Text: "no such content here (#5.7.1)"}}},
		"perl, later": {perl, subject("later"), engine.Verdict{Reason: engine.Trouble, Advice: engine.Defer,
			Detail: "come back later (#4.3.0)", Status: mail.Status{Code: 451, Enhanced: "4.3.0", Text: "come back later (#4.3.0)"}}},
	} {
		t.Run(name, func(t *testing.T) {
			if test.cfg.Program == "" {
				t.Skip("needs perl")
			}
			test.want.Engine = "wrapper"
			if diff := cmp.Diff(test.want, enginetest.Ask(t, scanner(t, test.cfg), test.mail)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestExitCodes(t *testing.T) {
	refused := func(detail string) engine.Verdict {
		return engine.Verdict{Outcome: engine.Refused, Advice: engine.Refuse, Detail: detail, Status: mail.Status{Code: 554, Enhanced: "5.7.1", Text: detail}}
	}
	trouble := func(detail string) engine.Verdict { return engine.Verdict{Reason: engine.Trouble, Detail: detail} }
	named := func(v engine.Verdict, o engine.Outcome, name string) engine.Verdict {
		v.Outcome, v.Name = o, name
		return v
	}
	for text, want := range map[string]engine.Verdict{
		"exit 10":                         trouble("exit code 10"),
		"exit 11":                         refused("an address is too long"),
		"exit 12":                         refused("exit code 12"),
		"exit 31":                         refused("refused"),
		"printf 'Dnot here' >&6; exit 31": refused("not here"),
		"printf 'Zlater' >&6; exit 31":    refused("refused"), // the code is the stronger word
		"printf 'D\\033[2J%s\\r\\nX' a >&6; exit 31": refused("[2Ja  X"),
		"exit 32":                       named(refused("virus"), engine.Malware, "infected"),
		"exit 33":                       named(refused("spam"), engine.Spam, ""),
		"exit 34":                       named(refused("bad attachment"), engine.Refused, "attachment"),
		"exit 40":                       refused("exit code 40"),
		"exit 41":                       trouble("exit code 41"),
		"echo full >&2; exit 53":        trouble("exit code 53: full"),
		"exit 91":                       trouble("exit code 91"),
		"exit 120":                      trouble("exit code 120"),
		"printf 'Dbut no' >&6; exit 71": trouble("exit code 71"),
		"printf Dno >&6; exit 82":       refused("no"),
		"printf Xno >&6; exit 82":       trouble("exit code 82"),
		"head -c 100000 /dev/zero | tr '\\0' D >&6; exit 82": refused(strings.Repeat("D", engine.MaxText)),
	} {
		want.Engine = "wrapper"
		if diff := cmp.Diff(want, enginetest.Ask(t, scanner(t, wrapper.Config{Program: script(t, text)}), plain)); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
	e := scanner(t, wrapper.Config{Program: script(t, "exit 0"), Discards: true})
	want := engine.Verdict{Engine: "wrapper", Outcome: engine.Refused, Advice: engine.Discard, Detail: "nothing was passed on"}
	if diff := cmp.Diff(want, enginetest.Ask(t, e, plain)); diff != "" {
		t.Error(diff)
	}
}

// TestWhatAWrapperFinds: descriptors, variables, folder.
func TestWhatAWrapperFinds(t *testing.T) {
	dir := t.TempDir()
	e := scanner(t, wrapper.Config{Home: dir, Args: []string{"an argument"}, Env: []string{"MORE=1"}, Program: script(t, `
exec 3<&1
cat >message; cat <&3 >envelope
echo "$#,$1,$MAILFROM,$RCPTTO,$HELOHOST,$MORE" >variables
if echo x >&3; then exit 81; fi 2>/dev/null
exec "$QMAILQUEUE" <message 1<envelope`)})
	if v := enginetest.Ask(t, e, plain); v.Outcome != engine.Clean || len(v.Changes) > 0 {
		t.Errorf("%+v", v)
	}
	for name, want := range map[string]string{
		"message":   strings.ReplaceAll(plain, "\r\n", "\n"),
		"envelope":  "Fsender@client.example\x00Tann@acme.example\x00Tbob@acme.example\x00\x00",
		"variables": "1,an argument,sender@client.example,ann@acme.example bob@acme.example,client.example,1\n",
	} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// TestRecipientsInAnyOrder is no changed envelope, nor is a second try after a
// failure a second message.
func TestRecipientsInAnyOrder(t *testing.T) {
	e := scanner(t, wrapper.Config{Program: script(t, `cp /dev/stdin m; printf half >e; $QMAILQUEUE <m 1<e 2>/dev/null && exit 81
printf 'Fsender@client.example\0Tbob@acme.example\0Tann@acme.example\0\0' >e; exec $QMAILQUEUE <m 1<e`)})
	if v := enginetest.Ask(t, e, plain); v.Outcome != engine.Clean || len(v.Changes) > 0 {
		t.Errorf("%+v", v)
	}
}

func TestCollectFails(t *testing.T) {
	dir := t.TempDir()
	nobody := func() (string, []string, error) { return "", nil, nil }
	if err := wrapper.Collect(dir, strings.NewReader("x"), nobody); err == nil {
		t.Error("without a scan")
	}
	if err := os.WriteFile(filepath.Join(dir, "message"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := wrapper.Collect(dir, io.MultiReader(strings.NewReader("x"), errReader{}), nobody); !errors.Is(err, wrapper.ErrMessage) {
		t.Errorf("%v", err)
	}
	if err := wrapper.Collect(dir, bytes.NewReader(make([]byte, 2<<20)), nobody); err == nil {
		t.Error("a message that has grown by 2 MB")
	}
	if err := wrapper.Collect(dir, strings.NewReader("x"), nobody); err != nil {
		t.Errorf("after that: %v", err)
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("gone") }

func TestState(t *testing.T) {
	if _, err := scanner(t, wrapper.Config{Program: "/bin/true", Queue: "/nonexistent/qmail-queue"}).State(t.Context()); err == nil {
		t.Error("without qmail-queue")
	}
}

func TestNewRefuses(t *testing.T) {
	for i, cfg := range []wrapper.Config{
		{}, {Program: "wrapper"}, {Program: "/w", Home: "home"}, {Program: "/w", Queue: "qmail-queue"}, {Program: "/w", Time: -1},
		{Program: "/w", Env: []string{"x"}}, {Program: "/w", Limits: process.Limits{Files: -1}},
	} {
		if _, err := wrapper.New(cfg); err == nil {
			t.Errorf("%d: %+v is taken", i, cfg)
		}
	}
}
