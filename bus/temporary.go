package bus

import (
	"errors"
	"net"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Temporary reports whether a broker's refusal, or its absence, passes by
// itself: a leader that moves, a broker that is started again.
func Temporary(err error) bool {
	var dial net.Error
	return kerr.IsRetriable(err) || errors.As(err, &dial) || errors.Is(err, net.ErrClosed)
}
