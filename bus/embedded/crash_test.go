package embedded

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"qstream/bus"
	"qstream/schemas"
	"qstream/test/lanes"
)

// childDir names the data directory of a child that this test kills.
const childDir = "QSTREAM_TEST_EMBEDDED_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := publishForEver(dir, os.Getenv(childDir+"_FIRST")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if dir := os.Getenv(childLarge); dir != "" {
		if err := storeLarge(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	lanes.Open(6)
	goleak.VerifyTestMain(m)
}

// base64Noise is like an attachment: it gains by its alphabet only.
func base64Noise(n int) []byte {
	raw := make([]byte, n)
	rand.Read(raw)
	return []byte(base64.StdEncoding.EncodeToString(raw))[:n]
}

// publishForEver tells each record that was acknowledged, one a line.
func publishForEver(dir, run string) error {
	k, err := Start(Config{Dir: dir, MinFree: 1})
	if err != nil {
		return err
	}
	b, err := bus.Dial(bus.Config{Seeds: k.Seeds(), Barrier: k.Barrier})
	if err != nil {
		return err
	}
	if _, err := b.CreateTopics(context.Background(), schemas.FixedTopics(), bus.CreateOptions{}); err != nil {
		return err
	}
	var mu sync.Mutex
	failed := make(chan error, 8)
	for worker := range 8 {
		go func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%s-%d-%d", run, worker, i)
				r := &bus.Record{Topic: schemas.Received, Partition: bus.AnyPartition, Key: []byte(id), Value: make([]byte, 3000)}
				if err := b.Publish(context.Background(), r); err != nil {
					failed <- err
					return
				}
				mu.Lock()
				fmt.Println(id)
				mu.Unlock()
			}
		}()
	}
	return <-failed
}

// killed runs a child until it has told n records, and kills it.
func killed(t *testing.T, dir string, run, n int) []string {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), childDir+"="+dir, fmt.Sprintf("%s_FIRST=%d", childDir, run))
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var told []string
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		told = append(told, lines.Text())
		if len(told) == n {
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = child.Wait()
	if len(told) < n {
		t.Fatalf("the child told %d records, want %d", len(told), n)
	}
	return told
}

// stands reads every record of the received topic and counts them by key.
func stands(t *testing.T, dir string) map[string]int {
	t.Helper()
	k, b := open(t, Config{Dir: dir, MinFree: 1})
	defer k.Close()
	defer b.Close()
	found := map[string]int{}
	err := b.Read(t.Context(), []string{schemas.Received}, bus.Start{}, func(r bus.Record) error {
		found[string(r.Key)]++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestKillLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var told []string
	for run := range 4 {
		told = append(told, killed(t, dir, run, 300)...)
		found := stands(t, dir)
		lost, twice := 0, 0
		for _, id := range told {
			switch found[id] {
			case 0:
				lost++
			case 1:
			default:
				twice++
			}
		}
		t.Logf("kill %d: %d acknowledged, %d stored, %d lost, %d twice", run+1, len(told), len(found), lost, twice)
		if lost > 0 || twice > 0 {
			t.Fatal("records lost or stored twice")
		}
	}
}

// A torn end is what a power loss leaves of writes that nobody was told about.
func TestTornEndsKeepWholeBatches(t *testing.T) {
	t.Parallel()
	tears := map[string]func(*os.File, int64) error{
		"a byte short": func(f *os.File, size int64) error { return f.Truncate(size - 1) },
		"zero bytes":   func(f *os.File, size int64) error { return f.Truncate(size + 200) },
		"noise": func(f *os.File, size int64) error {
			_, err := f.WriteAt([]byte("noise that is no batch at all, again and again"), size)
			return err
		},
	}
	for name, tear := range tears {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			told := killed(t, dir, 0, 200)
			for _, s := range segmentsOf(t, dir) {
				f, err := os.OpenFile(s, os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				st, err := f.Stat()
				if err == nil && st.Size() > 0 {
					err = tear(f, st.Size())
				}
				if err != nil {
					t.Fatal(err)
				}
				f.Close()
			}
			found := stands(t, dir)
			// At most the last batch of each partition is gone.
			if lost := missing(told, found); lost > 3*8 {
				t.Errorf("%d of %d lost", lost, len(told))
			}
			killed(t, dir, 1, 50)
		})
	}
}

func segmentsOf(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dataDir(dir), func(path string, d os.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".dat" {
			found = append(found, path)
		}
		return err
	})
	if err != nil || len(found) == 0 {
		t.Fatalf("%d segments, %v", len(found), err)
	}
	return found
}

func missing(told []string, found map[string]int) int {
	n := 0
	for _, id := range told {
		if found[id] == 0 {
			n++
		}
	}
	return n
}
