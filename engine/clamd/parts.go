package clamd

import (
	"context"
	"errors"
	"io"
	"slices"

	"qstream/engine"
	"qstream/engine/unpack"
)

// errFound ends the walk: nothing that comes can change the verdict.
var errFound = errors.New("found")

// parts has clamd look at each decoded part of the message by itself, and
// returns the gravest verdict. When clamd's folder has no room for a part that
// it takes out of a message, it logs that, passes it over and answers OK; where
// a part is all there is it says so.
func (c *Client) parts(ctx context.Context, u *upload) (worst engine.Verdict, err error) {
	worst.Outcome = engine.Clean
	var s *session
	defer func() {
		if s != nil && err == nil && !s.ended {
			c.keep(s)
		} else if s != nil {
			_ = s.conn.Close()
		}
	}()
	reason, what, err := unpack.Parts(ctx, unpack.Config{Dir: c.cfg.Dir}, u, func(part io.Reader) error {
		if s == nil {
			if s, _, err = c.session(ctx); err != nil {
				return err
			}
		}
		v, err := s.scan(part)
		if err != nil {
			return err
		}
		if s.ended {
			_ = s.conn.Close()
			s = nil
		}
		if worst = graver(worst, v); worst.Outcome == engine.Malware {
			return errFound
		}
		return nil
	})
	if errors.Is(err, errFound) {
		err = nil
	}
	if reason != engine.NoReason {
		worst = graver(worst, engine.Verdict{Outcome: engine.Unscannable, Reason: reason, Detail: engine.Text(what)})
	}
	return worst, err
}

// scan is the verdict on a part.
func (s *session) scan(r io.Reader) (engine.Verdict, error) {
	u, err := s.begin(engine.NewContent(r))
	if err != nil {
		return engine.Verdict{}, err
	}
	reply, err := u.end()
	if err != nil {
		return engine.Verdict{}, err
	}
	return verdict(reply)
}

// gravity orders clamd's outcomes, the lightest first.
var gravity = []engine.Outcome{engine.Clean, engine.Encrypted, engine.Unscannable, engine.Malware}

func graver(a, b engine.Verdict) engine.Verdict {
	if slices.Index(gravity, b.Outcome) > slices.Index(gravity, a.Outcome) {
		return b
	}
	return a
}
