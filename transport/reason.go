package transport

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// Reason is why a connection failed, without addresses, which stand beside it
// where it is told.
func Reason(err error) string {
	var errno syscall.Errno
	var timeout net.Error
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "closed by the peer"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timed out"
	case errors.As(err, &errno):
		return errno.Error()
	}
	return err.Error()
}
