//go:build linux

package maildir_test

import (
	"context"
	"io"
	"strings"
	"syscall"
	"testing"

	"qstream/transport"
	"qstream/transport/maildir"
)

func TestFullDisk(t *testing.T) {
	folder := t.TempDir()
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, "size=256k"); err != nil {
		t.Skip("needs a small file system, which only root may mount: ", err)
	}
	defer func() { _ = syscall.Unmount(folder, 0) }()
	m := maildir.New()
	a := attempt("")
	a.Content = func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(strings.Repeat("x", 300<<10))), nil
	}
	r := m.Deliver(t.Context(), transport.Target{Path: folder}, a)
	for _, o := range r.Outcomes {
		if o.Kind != transport.Failed || o.Status.Code != 452 || o.Status.Enhanced != "4.3.1" {
			t.Errorf("%+v", o)
		}
	}
	if n := len(files(t, folder+"/new")) + len(files(t, folder+"/tmp")); n != 0 || r.Sent {
		t.Errorf("%d files were left", n)
	}
	if r = m.Deliver(t.Context(), transport.Target{Path: folder}, attempt("small\r\n")); !r.Delivered() {
		t.Errorf("after it: %+v", r)
	}
}
