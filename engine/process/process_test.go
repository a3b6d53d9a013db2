package process

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"qstream/engine"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("QSTREAM_TEST_ROOM"); dir != "" { // see TestRoomsOfTheKilled
		r := NewRoom(dir)
		if _, _, err := r.Folder(); err != nil {
			panic(err)
		}
		_, _ = os.Stdout.WriteString("made\n")
		select {}
	}
	if kind := os.Getenv("QSTREAM_TEST_KILLED"); kind != "" { // see TestKilled
		p := sh("echo $$; exec sleep 1000")
		p.Stdout = os.Stdout
		if kind == "limited" {
			p.Limits = Limits{Files: 64}
		}
		_, err := Run(context.Background(), p)
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

func sh(script string) Program {
	return Program{Path: "/bin/sh", Args: []string{"-c", script}, Env: []string{"PATH=/usr/bin:/bin"}}
}

func TestRun(t *testing.T) {
	held, err := os.Create(filepath.Join(t.TempDir(), "held-open"))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	for name, test := range map[string]struct {
		script string
		code   int
		signal syscall.Signal
		output string
	}{
		"silent":                {"exit 0", 0, 0, ""},
		"a code":                {"exit 34", 34, 0, ""},
		"a signal":              {"kill -SEGV $$", -1, syscall.SIGSEGV, ""},
		"both outputs":          {"echo a; echo b >&2", 0, 0, "a\nb\n"},
		"no input":              {"cat; echo end", 0, 0, "end\n"},
		"no files of ours":      {"ls -l /proc/self/fd | grep -c held-open", 1, 0, "0\n"},
		"no other variables":    {"env | grep -v -e ^PATH= -e ^PWD= -e ^_= -e ^SHLVL= -e ^OLDPWD=", 1, 0, ""},
		"output is bounded":     {"head -c 1000000 /dev/zero | tr '\\0' x", 0, 0, strings.Repeat("x", MaxOutput)},
		"what it leaves behind": {"sleep 1000 & echo ok", 0, 0, "ok\n"},
	} {
		t.Run(name, func(t *testing.T) {
			begun := time.Now()
			r, err := Run(t.Context(), sh(test.script))
			if err != nil || r.Code != test.code || r.Signal != test.signal || r.Output != test.output {
				t.Errorf("%v, %q, %v", r, r.Output, err)
			}
			if took := time.Since(begun); took > 30*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

func TestRunFails(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("no program"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, limits := range []Limits{{}, {Files: 64}} {
		p := Program{Path: "/nonexistent/program", Limits: limits}
		if _, err := Run(t.Context(), p); !errors.Is(err, ErrStart) {
			t.Errorf("no such program: %v", err)
		}
		p.Path = t.TempDir()
		if _, err := Run(t.Context(), p); !errors.Is(err, ErrStart) {
			t.Errorf("a folder: %v", err)
		}
	}
	if _, err := Run(t.Context(), Program{Path: text}); !errors.Is(err, ErrStart) {
		t.Errorf("no format: %v", err)
	}
	if _, err := Run(t.Context(), sh("yes")); !errors.Is(err, ErrOutput) {
		t.Errorf("output without end: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, sh("exit 0")); !errors.Is(err, context.Canceled) {
		t.Errorf("called off before: %v", err)
	}
}

// alive reports a process that is there and no zombie.
func alive(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

// TestEndTakesTheChildren: with the program, what it started, also behind
// its back and against their will.
func TestEndTakesTheChildren(t *testing.T) {
	for name, script := range map[string]string{
		"deadline":  `trap "" TERM INT HUP; (trap "" TERM; sleep 1000) & echo $! >>pids; sh -c 'sleep 1000 & echo $! >>pids; wait' & echo $! >>pids; sleep 1000`,
		"left over": `(trap "" TERM HUP; sleep 1000) & echo $! >>pids; sh -c 'sleep 1000 & echo $! >>pids; wait' & echo $! >>pids; until [ $(wc -l <pids) = 3 ]; do sleep 0.01; done`,
	} {
		t.Run(name, func(t *testing.T) {
			p := sh(script)
			p.Dir = t.TempDir()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			pids := func() []string {
				b, _ := os.ReadFile(filepath.Join(p.Dir, "pids"))
				return strings.Fields(string(b))
			}
			if name == "deadline" {
				go func() {
					for len(pids()) < 3 && ctx.Err() == nil {
						time.Sleep(5 * time.Millisecond)
					}
					cancel()
				}()
			}
			if _, err := Run(ctx, p); (err != nil) != (name == "deadline") {
				t.Fatal(err)
			}
			if len(pids()) != 3 {
				t.Fatalf("%q", pids())
			}
			for _, text := range pids() {
				pid, _ := strconv.Atoi(text)
				for end := time.Now().Add(20 * time.Second); alive(pid); time.Sleep(10 * time.Millisecond) {
					if time.Now().After(end) {
						t.Fatalf("process %d lives on", pid)
					}
				}
			}
		})
	}
}

// TestKilled: a program ends with a process that is killed and so can't end it,
// also what a shell that set limits became.
func TestKilled(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("its kernel doesn't tell programs")
	}
	for _, kind := range []string{"plain", "limited"} {
		t.Run(kind, func(t *testing.T) {
			said, says, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer said.Close()
			c := exec.Command(os.Args[0])
			c.Env, c.Stdout, c.Stderr = append(os.Environ(), "QSTREAM_TEST_KILLED="+kind), says, os.Stderr
			err = c.Start()
			says.Close()
			if err != nil {
				t.Fatal(err)
			}
			_ = said.SetReadDeadline(time.Now().Add(time.Minute))
			lines := bufio.NewReader(said)
			line, err := lines.ReadString('\n')
			_ = c.Process.Kill()
			_ = c.Wait()
			pid, wrong := strconv.Atoi(strings.TrimSpace(line))
			if err != nil || wrong != nil {
				t.Fatalf("%q, %v, %v", line, err, wrong)
			}
			// Who has the other end open has ended.
			if _, err := lines.ReadByte(); err != io.EOF {
				t.Errorf("process %d lives on: %v", pid, err)
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		})
	}
}

func TestDescriptors(t *testing.T) {
	six, err := os.Create(filepath.Join(t.TempDir(), "six"))
	if err != nil {
		t.Fatal(err)
	}
	defer six.Close()
	full := strings.Repeat("x", maxThree)
	for name, test := range map[string]struct {
		change func(*Program)
		script string
		want   string
	}{
		"none":                {func(*Program) {}, "(: <&3) 2>&- || echo closed", "closed\n"},
		"three":               {func(p *Program) { p.Three = []byte("user\x00") }, "tr '\\0' . <&3", "user."},
		"all that it holds":   {func(p *Program) { p.Three = []byte(full) }, "cat <&3", full},
		"three isn't read":    {func(p *Program) { p.Three = []byte(full) }, "echo ok", "ok\n"},
		"six":                 {func(p *Program) { p.Six = six }, "echo text >&6; (: <&3) 2>&- || echo closed", "closed\n"},
		"both":                {func(p *Program) { p.Three, p.Six = []byte("a"), six }, "cat <&3; echo text >&6", "a"},
		"mute":                {func(p *Program) { p.Mute = true }, "echo a; echo b >&2", ""},
		"mute, without bound": {func(p *Program) { p.Mute = true }, "head -c 5000000 /dev/zero", ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := sh(test.script)
			test.change(&p)
			if r, err := Run(t.Context(), p); err != nil || r.Code != 0 || r.Output != test.want {
				t.Errorf("%v, %q, %v", r, r.Output, err)
			}
		})
	}
	p := sh("exit 0")
	p.Three = []byte(full + "x")
	if _, err := Run(t.Context(), p); !errors.Is(err, ErrStart) {
		t.Errorf("more than a pipe holds: %v", err)
	}
	if said, err := os.ReadFile(six.Name()); err != nil || string(said) != "text\ntext\n" {
		t.Errorf("%q, %v", said, err)
	}
}

// TestLimits needs a shell with ulimit for each.
func TestLimits(t *testing.T) {
	for name, test := range map[string]struct {
		limits Limits
		script string
		ended  func(Result) bool
	}{
		"processor": {Limits{CPU: time.Second}, "while :; do :; done", func(r Result) bool { return r.Signal == syscall.SIGKILL || r.Signal == syscall.SIGXCPU }},
		"memory":    {Limits{Memory: 64 << 20}, "head -c 200000000 /dev/zero | tail", func(r Result) bool { return r.Code != 0 }},
		"a file":    {Limits{FileSize: 1 << 20}, "exec head -c 2000000 /dev/zero >big", func(r Result) bool { return r.Signal == syscall.SIGXFSZ || r.Code > 0 }},
		"files":     {Limits{Files: 16}, "ulimit -n", func(r Result) bool { return r.Output == "16\n" }},
		"none is reached": {Limits{CPU: 100 * time.Second, Memory: 1 << 32, FileSize: 1 << 30, Files: 100}, "echo $1",
			func(r Result) bool { return r.Output == "a  b\n" && r.Code == 0 }},
	} {
		t.Run(name, func(t *testing.T) {
			p := sh(strings.ReplaceAll(test.script, "$1", `"$1"`))
			p.Args = append(p.Args, "name", "a  b")
			p.Limits, p.Dir = test.limits, t.TempDir()
			r, err := Run(t.Context(), p)
			if err != nil || !test.ended(r) {
				t.Errorf("%+v, %v", r, err)
			}
			if st, err := os.Stat(filepath.Join(p.Dir, "big")); err == nil && st.Size() > 1<<20 {
				t.Errorf("a file of %d bytes", st.Size())
			}
		})
	}
	if Check(-1, Limits{}, nil) == nil || Check(0, Limits{}, []string{"x"}) == nil || Check(time.Second, Limits{CPU: 1}, []string{"A=b"}) != nil {
		t.Error("Check")
	}
	for _, l := range []Limits{{CPU: -1}, {Memory: -1}, {FileSize: -1}, {Files: -1}, {Files: 3}} {
		if Check(0, l, nil) == nil {
			t.Errorf("%+v is taken", l)
		}
	}
}

func TestRoom(t *testing.T) {
	dir := t.TempDir()
	r := NewRoom(dir)
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("New made %v", left)
	}
	a, leaveA, err := r.Folder()
	if err != nil {
		t.Fatal(err)
	}
	b, leaveB, err := NewRoom(dir).Folder() // another engine's
	if err != nil || a == b {
		t.Fatalf("%s, %s, %v", a, b, err)
	}
	if st, err := os.Stat(filepath.Dir(a)); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", st, err)
	}
	leaveA()
	if _, err := os.Stat(a); !os.IsNotExist(err) {
		t.Errorf("it stays: %v", err)
	}
	if err := os.RemoveAll(filepath.Dir(a)); err != nil { // as a cleaner of temporary folders
		t.Fatal(err)
	}
	c, leaveC, err := r.Folder()
	if err != nil {
		t.Fatalf("after the room was taken away: %v", err)
	}
	if _, err := os.Stat(b); err != nil {
		t.Errorf("another's room is swept: %v", err)
	}
	leaveB()
	leaveC()
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Dir(c)); !os.IsNotExist(err) {
		t.Errorf("the room stays: %v", err)
	}
	if _, _, err := NewRoom(filepath.Join(dir, "none")).Folder(); err == nil {
		t.Error("a room in a folder that isn't there")
	}
}

// TestRoomsOfTheKilled: the next process removes them, and nobody else's.
func TestRoomsOfTheKilled(t *testing.T) {
	dir := t.TempDir()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), "QSTREAM_TEST_ROOM="+dir)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	fresh := filepath.Join(dir, roomPrefix+"fresh") // being made by somebody
	old := filepath.Join(dir, roomPrefix+"old")
	for _, d := range []string{fresh, old} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(old, time.Time{}, time.Now().Add(-2*unlocked)); err != nil {
		t.Fatal(err)
	}
	rooms := func() int {
		all, _ := filepath.Glob(filepath.Join(dir, roomPrefix+"*"))
		return len(all)
	}
	for _, want := range []int{3, 2} { // with the living one: fresh, its own, ours; without: fresh, ours
		r := NewRoom(dir)
		if _, _, err := r.Folder(); err != nil {
			t.Fatal(err)
		}
		if n := rooms(); n != want {
			t.Errorf("%d rooms, want %d", n, want)
		}
		if want == 3 {
			_ = c.Process.Kill()
			_ = c.Wait()
		}
		_ = r.Close()
	}
}

func TestStore(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "a\r\nb\r\n": "a\nb\n", "a\r": "a\r", "a\r\r\nb": "a\r\nb", "a\nb\rc\r\n": "a\nb\rc\n", "\r\n": "\n", "\r\r": "\r\r",
	} {
		dir := t.TempDir()
		path, n, err := Store(t.Context(), dir, iotest.OneByteReader(strings.NewReader(in)), 0, nil)
		got, _ := os.ReadFile(path)
		if err != nil || string(got) != want || n != int64(len(want)) {
			t.Errorf("%q becomes %q (%d, %v), want %q", in, got, n, err, want)
		}
	}
	_, n, err := Store(t.Context(), t.TempDir(), strings.NewReader(strings.Repeat("x", 1<<20)), 1000, nil)
	if err != nil || n <= 1000 {
		t.Errorf("above the limit: %d, %v", n, err)
	}
	var f *engine.Failure
	_, _, err = Store(t.Context(), t.TempDir(), iotest.ErrReader(errors.New("gone")), 0, nil)
	if !errors.As(err, &f) || f.Reason != engine.Unreadable {
		t.Errorf("%v", err)
	}
	_, _, err = Store(t.Context(), "/nonexistent", strings.NewReader(""), 0, nil)
	if !errors.As(err, &f) || f.Reason != engine.Trouble {
		t.Errorf("%v", err)
	}
}

// TestLines: however content is cut, CRLF becomes LF and nothing else changes.
func TestLines(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.StringOf(rapid.SampledFrom([]rune("a\r\n"))).Draw(t, "in")
		var l lines
		out := ""
		for rest := in; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "n")
			out += string(l.convert([]byte(rest[:n]), false))
			rest = rest[n:]
		}
		out += string(l.convert(nil, true))
		if want := strings.ReplaceAll(in, "\r\n", "\n"); out != want {
			t.Fatalf("%q becomes %q, want %q", in, out, want)
		}
	})
}

func TestEnv(t *testing.T) {
	f := &engine.Facts{ReversePath: "a@client.example\nX=1", Recipients: []string{"b@acme.example", "c@acme.example"}, HELO: "client\x00"}
	got := strings.Join(Env(f)[1:], "|")
	if want := "PROTO=TCP|MAILFROM=a@client.example X=1|RCPTTO=b@acme.example c@acme.example|HELOHOST=client "; got != want {
		t.Errorf("%q", got)
	}
	for range 5000 {
		f.Recipients = append(f.Recipients, "somebody.with.a.long.name@acme.example")
	}
	f.Recipients = append(f.Recipients, strings.Repeat("x", 1000))
	p := sh(`set -- $RCPTTO; eval last=\${$#}; echo $last`)
	p.Env = Env(f)
	r, err := Run(t.Context(), p)
	if err != nil || r.Output != "somebody.with.a.long.name@acme.example\n" {
		t.Errorf("many recipients: %+v, %v", r, err)
	}
	if checkEnv([]string{"A=b", "A=", "A=b=c"}) != nil || checkEnv([]string{"A"}) == nil || checkEnv([]string{"=b"}) == nil || checkEnv([]string{"A=\x00"}) == nil {
		t.Error("checkEnv")
	}
}
