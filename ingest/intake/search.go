package intake

import (
	"context"
	"errors"
	"io"
	"time"

	"qstream/qmail"
)

// obeyed looks at content that came before anybody knew whose policy holds:
// at its size, and at what it holds.
func (s *Session) obeyed() error {
	m := s.ahead
	if m.size > s.tx.maxSize {
		return tooBig(s.tx.maxSize)
	}
	m.policy, m.scan = s.tx.judgement.scanned()
	if m.blob == nil {
		return m.obey(m.small.Bytes())
	}
	scan := m.scan
	m.scan = nil
	if err := m.obey(nil); err != nil || scan == nil {
		return err
	}
	return m.search(s.ctx, scan)
}

// search reads stored content back, up to what is refused. A broker that
// neither takes nor gives anything for Config.Timeout ends it.
func (m *message) search(ctx context.Context, scan *qmail.ContentScan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := m.commit(ctx); err != nil {
		return err
	}
	watchdog := time.AfterFunc(m.in.cfg.Timeout, cancel)
	defer watchdog.Stop()
	r, err := m.open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	buf := m.small.Bytes()[:piece]
	for {
		n, err := r.Read(buf)
		watchdog.Reset(m.in.cfg.Timeout)
		if _, _ = scan.Write(buf[:n]); scan.Found != qmail.Clean { // it never fails
			return answer(m.policy.Found(scan.Found).Status)
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}
