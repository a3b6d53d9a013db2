package command_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"qstream/engine"
	"qstream/engine/command"
	"qstream/engine/enginetest"
	"qstream/engine/process"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script is a program of a test.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// scanner is an engine whose files have to be gone when it is closed.
func scanner(t *testing.T, cfg command.Config) *command.Engine {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	e, err := command.New(cfg)
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

const honest = `if grep -q '^` + enginetest.Bad + `$' "$1"; then echo "$1: Test.Bad FOUND"; exit 1; fi`

func TestSuite(t *testing.T) {
	failing := func(text string, reason engine.Reason, more func(*command.Config)) enginetest.Failing {
		return enginetest.Failing{Reason: reason, New: func(t *testing.T) engine.Engine {
			cfg := command.Config{Program: script(t, text), Time: time.Minute}
			if more != nil {
				more(&cfg)
			}
			return scanner(t, cfg)
		}}
	}
	enginetest.Run(t, enginetest.Maker{
		Own: func(t *testing.T) engine.Engine { return scanner(t, command.Config{Program: script(t, honest)}) },
		Failing: map[string]enginetest.Failing{
			"another code": failing("echo trouble >&2; exit 2", engine.Trouble, nil),
			"crashes":      failing("kill -SEGV $$", engine.Trouble, nil),
			"floods":       failing("yes", engine.Trouble, nil),
			"hangs": failing(`trap "" TERM; sleep 1000 & wait; sleep 1000`, engine.Late, func(c *command.Config) {
				c.Time = enginetest.Short
			}),
			"not there": failing("", engine.Unreachable, func(c *command.Config) { c.Program = "/nonexistent/scanner" }),
			"not there, with limits": failing("", engine.Unreachable, func(c *command.Config) {
				c.Program, c.Limits = "/nonexistent/scanner", process.Limits{Files: 64}
			}),
			"no folder":                 failing("exit 0", engine.Trouble, func(c *command.Config) { c.Dir = "/nonexistent" }),
			"out of time":               failing("while :; do :; done", engine.Trouble, func(c *command.Config) { c.Limits.CPU = time.Second }),
			"limits that can't be kept": failing("exit 0", engine.Trouble, func(c *command.Config) { c.Limits.Memory = 1 }),
		},
	})
}

func TestContract(t *testing.T) {
	plain, coded := "Subject: x\r\n\r\ntext\r\n", "Content-Transfer-Encoding: base64\r\n\r\ndGV4dA==\r\n"
	fine := engine.Verdict{Engine: "command", Outcome: engine.Clean}
	for name, test := range map[string]struct {
		cfg    command.Config
		script string
		mail   string
		want   engine.Verdict
	}{
		"clean":         {command.Config{}, "exit 0", plain, fine},
		"infected":      {command.Config{}, "exit 1", plain, engine.Verdict{Engine: "command", Outcome: engine.Malware, Name: "infected"}},
		"clamdscan":     {command.Config{}, `echo "$1: a: b FOUND"; echo; echo "----- SCAN SUMMARY -----"; exit 1`, plain, engine.Verdict{Engine: "command", Outcome: engine.Malware, Name: "b"}},
		"hostile words": {command.Config{}, `printf 'x: \033[2Jevil\r FOUND\n'; exit 1`, plain, engine.Verdict{Engine: "command", Outcome: engine.Malware, Name: "[2Jevil"}},
		"another code":  {command.Config{Code: 13}, "exit 13", plain, engine.Verdict{Engine: "command", Outcome: engine.Malware, Name: "infected"}},
		"1 is trouble then": {command.Config{Code: 13}, "echo a; echo b; exit 1", plain,
			engine.Verdict{Engine: "command", Reason: engine.Trouble, Detail: "exit code 1: b"}},
		"arguments":         {command.Config{Args: []string{"a", "b c", "$d"}}, `[ "$#,$2,$3,$4" = '4,a,b c,$d' ] || exit 2`, plain, fine},
		"lines end with LF": {command.Config{}, `[ "$(od -An -c "$1" | tr -d ' \n')" = 'Subject:x\n\ntext\n' ] || exit 2`, plain, fine},
		"variables":         {command.Config{Env: []string{"MORE=1"}}, `[ "$MAILFROM $RCPTTO $HELOHOST $MORE" = "sender@client.example ann@acme.example bob@acme.example client.example 1" ] || exit 2`, plain, fine},
		"too small": {command.Config{MinSize: 100}, "exit 1", plain,
			engine.Verdict{Engine: "command", Outcome: engine.Unscannable, Reason: engine.OutOfScope, Detail: "not scanned: smaller than 100 bytes"}},
		"too large": {command.Config{MaxSize: 10}, "exit 1", plain,
			engine.Verdict{Engine: "command", Outcome: engine.Unscannable, Reason: engine.TooLarge, Detail: "not scanned: larger than 10 bytes"}},
		"too large is fine": {command.Config{MaxSize: 10, Outside: "clean"}, "exit 1", plain,
			engine.Verdict{Engine: "command", Outcome: engine.Clean, Detail: "not scanned: larger than 10 bytes"}},
		"just within": {command.Config{MinSize: 17, MaxSize: 17}, "exit 0", plain, fine},
		"no base64": {command.Config{Base64: true}, "exit 1", plain,
			engine.Verdict{Engine: "command", Outcome: engine.Unscannable, Reason: engine.OutOfScope, Detail: "not scanned: nothing is in base64"}},
		"base64":          {command.Config{Base64: true}, "exit 0", coded, fine},
		"base64, later":   {command.Config{Base64: true}, "exit 0", strings.Repeat("text\r\n", 100_000) + "\r\n" + coded, fine},
		"all the options": {command.Config{Base64: true, MinSize: 1, MaxSize: 1000, Outside: "clean", Code: 3}, "exit 3", coded, engine.Verdict{Engine: "command", Outcome: engine.Malware, Name: "infected"}},
	} {
		t.Run(name, func(t *testing.T) {
			test.cfg.Program = script(t, test.script)
			if diff := cmp.Diff(test.want, enginetest.Ask(t, scanner(t, test.cfg), test.mail)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestLargeMailIsntStored: what is above the window is read no further than
// that needs.
func TestLargeMailIsntStored(t *testing.T) {
	e := scanner(t, command.Config{Program: "/bin/true", MaxSize: 100_000})
	content := strings.NewReader(strings.Repeat("x", 10<<20))
	if v := e.Scan(t.Context(), content, enginetest.Facts(0)); v.Outcome != engine.Unscannable || content.Len() < 9<<20 {
		t.Errorf("%+v, %d bytes left", v, content.Len())
	}
}

func TestState(t *testing.T) {
	if _, err := scanner(t, command.Config{Program: "/nonexistent/scanner"}).State(t.Context()); err == nil {
		t.Error("a program that isn't there")
	}
}

func TestNewRefuses(t *testing.T) {
	for i, cfg := range []command.Config{
		{}, {Program: "bin/scanner"}, {Program: "/s", Args: []string{"1", "2", "3", "4"}}, {Program: "/s", Args: []string{"\x00"}},
		{Program: "/s", Code: 256}, {Program: "/s", MinSize: -1}, {Program: "/s", MinSize: 2, MaxSize: 1}, {Program: "/s", Outside: "pass"},
		{Program: "/s", Limits: process.Limits{CPU: -1}}, {Program: "/s", Env: []string{"X"}}, {Program: "/s", Time: -1},
	} {
		if _, err := command.New(cfg); err == nil {
			t.Errorf("%d: %+v is taken", i, cfg)
		}
	}
}
