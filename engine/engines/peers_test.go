package engines

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"qstream/engine"
	"qstream/test/peers"
)

// What a process that scans is told, and how many do so at once.
const (
	aloneVariable = "QSTREAM_TEST_SCAN_ALONE"
	atOnce        = 4
	maxMemory     = 300 << 20
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(aloneVariable); dir != "" {
		if err := scanAlone(dir, os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// said is a verdict as the scanning process tells it, or at its end what memory
// it took at most: the usage that its parent sees begins with the parent's own.
type said struct {
	File    string
	Verdict engine.Verdict
	Took    time.Duration
	Peak    int64 // bytes
}

// scanAlone asks clamd and unpack about each file of a folder, several times at
// once, and tells the verdicts.
func scanAlone(dir, clamd string) error {
	var all []engine.Engine
	for _, s := range []engine.Spec{
		{Name: "clamd", Type: engine.TypeClamd, Network: "unix", Address: clamd},
		{Name: "unpack", Type: engine.TypeUnpack, Dir: dir},
	} {
		e, err := New(s)
		if err != nil {
			return err
		}
		defer e.Close()
		all = append(all, e)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.eml"))
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, file := range files {
		for range atOnce {
			wg.Go(func() {
				for _, e := range all {
					s := said{File: filepath.Base(file)}
					s.Verdict, s.Took = scanFile(e, file)
					mu.Lock()
					_ = out.Encode(s)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	var kilobytes int64
	if _, err := fmt.Sscan(rest, &kilobytes); err != nil {
		return fmt.Errorf("peak of the memory: %w", err)
	}
	return out.Encode(said{Peak: kilobytes << 10})
}

// scanFile gives it the time that the directory gives by default.
func scanFile(e engine.Engine, file string) (engine.Verdict, time.Duration) {
	f, err := os.Open(file)
	if err != nil {
		return engine.Verdict{}, 0
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return engine.Verdict{}, 0
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute+2*time.Second*time.Duration(st.Size()>>20))
	defer cancel()
	begun := time.Now()
	v := e.Scan(ctx, f, &engine.Facts{Size: st.Size()})
	return v, time.Since(begun)
}

// TestHardMail: clamd and unpack together have the right word for all that is
// built to slip through or to do harm, in time and in little memory.
func TestHardMail(t *testing.T) {
	peers.Need(t)
	d := peers.StartClamd(t, "StreamMaxLength 100M", "MaxFileSize 100M", "MaxScanSize 400M")
	dir := t.TempDir()
	want := map[string]peers.HardMail{}
	for name, m := range peers.HardMails() {
		f, err := os.Create(filepath.Join(dir, name+".eml"))
		if err == nil {
			err = m.Write(f)
		}
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		want[name+".eml"] = m
	}
	c := exec.Command(os.Args[0], d.Socket())
	c.Env = append(os.Environ(), aloneVariable+"="+dir)
	var told, complaints bytes.Buffer
	c.Stdout, c.Stderr = &told, &complaints
	if err := c.Run(); err != nil {
		t.Fatalf("%v: %s", err, complaints.String())
	}
	got := map[string][]said{}
	for in := json.NewDecoder(&told); ; {
		var s said
		if err := in.Decode(&s); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if s.Peak == 0 {
			got[s.File] = append(got[s.File], s)
			continue
		}
		t.Logf("the process that scanned took %d MiB at most", s.Peak>>20)
		if s.Peak > maxMemory {
			t.Errorf("more than %d MiB", maxMemory>>20)
		}
	}
	for name, w := range want {
		if n := len(got[name]); n != 2*atOnce {
			t.Errorf("%s: %d verdicts", name, n)
		}
		for i, s := range got[name] {
			if s.Verdict.Outcome == engine.Failed {
				t.Errorf("%s: %+v after %v", name, s.Verdict, s.Took)
			}
			if i < 2 || s.Took > 10*time.Second {
				t.Logf("%-12s %-6s %v %v after %v: %s%s", name, s.Verdict.Engine, s.Verdict.Outcome, s.Verdict.Reason, s.Took.Round(time.Millisecond), s.Verdict.Name, s.Verdict.Detail)
			}
		}
		worst := gravest(got[name])
		if worst.Outcome != w.Outcome || w.Reason != 0 && worst.Reason != w.Reason {
			t.Errorf("%s: %v %v, want %v %v", name, worst.Outcome, worst.Reason, w.Outcome, w.Reason)
		}
	}
}

// gravest is what policy would act upon.
func gravest(all []said) (v engine.Verdict) {
	weight := map[engine.Outcome]int{engine.Clean: 1, engine.Encrypted: 2, engine.Unscannable: 3, engine.Malware: 4}
	for _, s := range all {
		if weight[s.Verdict.Outcome] > weight[v.Outcome] {
			v = s.Verdict
		}
	}
	return v
}
