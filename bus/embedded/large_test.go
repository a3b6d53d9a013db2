package embedded

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"qstream/bus"
	"qstream/schemas"
)

// childLarge names the data directory of a child that stores large messages.
const childLarge = "QSTREAM_TEST_EMBEDDED_LARGE"

// Memory is bounded by the number of sessions, not by what they send: broker
// and 20 sessions with 50 MiB each stay under 500 MB.
func TestLargeMessagesTakeLittleMemory(t *testing.T) {
	if os.Getenv("QSTREAM_TEST_LONG") == "" {
		t.Skip("stores 1 GB: set QSTREAM_TEST_LONG=1")
	}
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), childLarge+"="+t.TempDir())
	child.Stderr = os.Stderr
	out, err := child.Output()
	if err != nil {
		t.Fatal(err)
	}
	var peak int
	if _, err := fmt.Sscanf(string(out), "VmHWM: %d kB", &peak); err != nil {
		t.Skipf("this system doesn't tell: %s", out)
	}
	t.Logf("20 messages of 50 MiB at once: %d MB at the peak", peak/1000)
	if peak > 500_000 {
		t.Errorf("%d kB", peak)
	}
}

// storeLarge stores and reads back, and tells the most memory that it took.
func storeLarge(dir string) error {
	k, err := Start(Config{Dir: dir, MinFree: 1, MaxBytes: 1 << 40})
	if err != nil {
		return err
	}
	defer k.Close()
	b, err := bus.Dial(bus.Config{Seeds: k.Seeds(), Barrier: k.Barrier})
	if err != nil {
		return err
	}
	defer b.Close()
	ctx := context.Background()
	if _, err := b.CreateTopics(ctx, schemas.FixedTopics(), bus.CreateOptions{}); err != nil {
		return err
	}
	var all errgroup.Group
	for i := range 20 {
		all.Go(func() error { return storeOne(ctx, b, fmt.Sprint("M", i)) })
	}
	if err := all.Wait(); err != nil {
		return err
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmHWM") {
			fmt.Println(strings.Join(strings.Fields(line), " "))
		}
	}
	return nil
}

func storeOne(ctx context.Context, b *bus.Bus, id string) error {
	w := b.Create(ctx, id, "")
	defer w.Abort()
	noise := base64Noise(1 << 20) // longer than a chunk: nothing in one repeats
	const piece = 32 << 10
	for sent := 0; sent < 50<<20; sent += piece {
		at := sent % len(noise)
		if _, err := w.Write(noise[at : at+piece]); err != nil {
			return err
		}
	}
	c, err := w.Commit()
	if err != nil {
		return err
	}
	r, err := b.Open(ctx, c.GetRef())
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	return err
}
