package intake

import (
	"context"
	"errors"
	"io"
	"time"
)

// piece is how much of large content is read at once.
const piece = 32 << 10

// patience is how long a large message waits for its turn.
const patience = time.Minute

var errCrowded = errors.New("too many large messages at once")

// readLarge stores content in chunks while it is read. Its beginning is in
// m.small.
func (m *message) readLarge(ctx context.Context, r io.Reader) error {
	if err := m.takeTurn(ctx); err != nil {
		return err
	}
	ctx, m.cancel = context.WithCancel(ctx)
	m.blob = m.in.deps.Bus.Create(ctx, m.id, m.class)
	if err := m.keep(m.small.Bytes()); err != nil {
		return err
	}
	buf := m.small.Bytes()[:piece]
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if err := m.check(buf[:n]); err != nil {
				return err
			}
			if err := m.keep(buf[:n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return &readError{err}
		}
	}
}

// keep writes to the blob. A broker that doesn't take a chunk in time ends
// the message.
func (m *message) keep(p []byte) error {
	watchdog := time.AfterFunc(m.in.cfg.Timeout, m.cancel)
	defer watchdog.Stop()
	_, err := m.blob.Write(p)
	return err
}

// takeTurn waits until there is memory for one more large message of the client.
func (m *message) takeTurn(ctx context.Context) error {
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	release, err := m.in.large.Take(waiting, m.client, 1)
	switch {
	case err == nil:
		m.release = release
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return errCrowded
}

// handOver gives the blob's context and place to whoever finishes it.
func (m *message) handOver() (release func()) {
	cancel, back := m.cancel, m.release
	m.cancel, m.release = nil, nil
	return func() {
		if cancel != nil {
			cancel()
		}
		if back != nil {
			back()
		}
	}
}

// close gives back what the message holds; content that was not published
// ages out.
func (m *message) close() {
	if m.blob != nil {
		m.blob.Abort()
	}
	if m.verify != nil {
		m.verify.Abort()
	}
	m.handOver()()
	if m.small != nil {
		smalls.Put(m.small)
	}
}
