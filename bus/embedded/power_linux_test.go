package embedded

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// mounted mounts an image of a file system and gives its place. It isn't
// written back by itself: what is in the image was flushed.
func mounted(t *testing.T, image string) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "mount", "-o", "loop,commit=300", image, dir).CombinedOutput(); err != nil {
		t.Skipf("can't mount an image here: %v: %s", err, out)
	}
	t.Cleanup(func() { unmount(t, dir) })
	return dir
}

// TestPowerLossLosesNothingAcknowledged takes what a disk has at the moment of
// a kill, without what the system holds in memory, and goes on from there.
func TestPowerLossLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts images of a disk")
	}
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 96<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "mkfs.ext4", "-q", image).CombinedOutput(); err != nil {
		t.Skipf("can't make a file system here: %v: %s", err, out)
	}
	var told []string
	for run := range 3 {
		dir := filepath.Join(mounted(t, image), "data")
		told = append(told, killed(t, dir, run, 400)...)
		raw, err := os.ReadFile(image)
		if err != nil {
			t.Fatal(err)
		}
		// The disk as it was goes on in another image.
		image = filepath.Join(t.TempDir(), "image")
		if err := os.WriteFile(image, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		seen := filepath.Join(t.TempDir(), "image")
		if err := os.WriteFile(seen, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		found := stands(t, filepath.Join(mounted(t, seen), "data"))
		lost := missing(told, found)
		t.Logf("power loss %d: %d acknowledged, %d stored, %d lost", run+1, len(told), len(found), lost)
		if lost > 0 {
			t.Fatal("acknowledged records are lost")
		}
	}
}
