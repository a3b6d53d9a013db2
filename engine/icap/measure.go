package icap

import (
	"errors"
	"io"
	"os"

	"qstream/engine"
)

// measured is content whose size is known: servers decide by Content-Length
// what they don't scan, and tell it only of what has one. Content of a size that
// wasn't told waits in a file without a name. done closes it.
func (c *Client) measured(content *engine.Content, told int64) (from *engine.Content, size int64, done func(), err error) {
	done = func() {}
	if told > 0 {
		return content, told, done, nil
	}
	f, err := os.CreateTemp("", "qstream-icap-")
	if err != nil {
		return nil, 0, done, engine.Fail(engine.Trouble, "keep the message: %w", err)
	}
	done = func() { _ = f.Close() }
	if err := os.Remove(f.Name()); err != nil {
		return nil, 0, done, engine.Fail(engine.Trouble, "hide the message's file: %w", err)
	}
	size, err = io.Copy(f, io.LimitReader(content, c.cfg.MaxSize+1))
	switch {
	case content.Err() != nil:
		err = engine.Fail(engine.Unreadable, "read content: %w", content.Err())
	case err == nil && size > c.cfg.MaxSize:
		err = errTooLarge
	case err == nil:
		_, err = f.Seek(0, io.SeekStart)
	}
	var known *engine.Failure
	if err != nil && !errors.Is(err, errTooLarge) && !errors.As(err, &known) {
		err = engine.Fail(engine.Trouble, "keep the message: %w", err)
	}
	return engine.NewContent(f), size, done, err
}
