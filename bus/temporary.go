package bus

import (
	"errors"
	"io"
	"net"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Temporary reports whether a broker's refusal, or its absence, passes by
// itself: a leader that moves, a broker that is started again.
func Temporary(err error) bool {
	var dial net.Error
	var first *kgo.ErrFirstReadEOF // a broker that is going down cuts off who has just come
	return kerr.IsRetriable(err) || errors.As(err, &dial) || errors.As(err, &first) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF)
}
