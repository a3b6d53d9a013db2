//go:build unix

package embedded

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// freeBytes is what the disk has left for us.
func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("ask for free space: %w", err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}
