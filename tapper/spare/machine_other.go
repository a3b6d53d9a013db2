//go:build !linux

package spare

import "errors"

// machine: what processors do is not known here, so that nothing rests.
func machine() (times, error) { return times{}, errors.ErrUnsupported }
