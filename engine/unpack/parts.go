package unpack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"qstream/engine"
)

// Parts reads a message to its end, if nothing stops it, and calls each with
// every part of it that isn't a multipart or message itself, decoded, and with
// every uuencoded file; archives are not opened. Text that stands in the message
// as it is, without an encoding, is left out. A reason says that a limit of cfg
// ended it early. The first error of content or each ends it, too, and comes
// back.
func Parts(ctx context.Context, cfg Config, content io.Reader, each func(io.Reader) error) (r engine.Reason, what string, err error) {
	e, err := New(cfg)
	if err != nil {
		return engine.NoReason, "", fmt.Errorf("parts: %w", err)
	}
	w := &walk{ctx: ctx, cfg: &e.cfg, begun: time.Now()}
	w.each = func(s *spool) error {
		begun := time.Now()
		defer func() { w.slept += time.Since(begun) }()
		return each(s.reader())
	}
	err = w.message(&clocked{w: w, from: engine.NewContent(content)}, 0)
	var l *limit
	if errors.As(err, &l) {
		return l.reason, l.what, nil
	}
	return engine.NoReason, "", err
}
