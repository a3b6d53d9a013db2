package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
)

func TestReason(t *testing.T) {
	for want, err := range map[string]error{
		"closed by the peer":         fmt.Errorf("read: %w", io.EOF),
		"timed out":                  &net.OpError{Op: "read", Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}, Err: os.ErrDeadlineExceeded},
		"other":                      errors.New("other"),
		syscall.ECONNREFUSED.Error(): &net.OpError{Op: "dial", Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)},
	} {
		if got := Reason(err); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
	if got := Reason(io.ErrUnexpectedEOF); got != "closed by the peer" {
		t.Errorf("%q", got)
	}
	if got := Reason(context.DeadlineExceeded); got != "timed out" {
		t.Errorf("%q", got)
	}
}
