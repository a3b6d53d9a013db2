package badtypes_test

import (
	"bytes"
	"context"
	"io"

	"qstream/engine"
	"qstream/engine/badtypes"
	"qstream/engine/enginetest"
)

// marked makes the suite's word for bad mail a part of a bad kind: its reader
// puts one in place of the word.
type marked struct{ *badtypes.Engine }

func (m marked) Scan(ctx context.Context, content io.Reader, f *engine.Facts) engine.Verdict {
	return m.Engine.Scan(ctx, &replacing{from: content}, f)
}

type replacing struct {
	from io.Reader
	held []byte
	err  error
	done bool
}

func (r *replacing) Read(p []byte) (int, error) {
	if !r.done {
		r.done = true
		r.held = make([]byte, 100) // the word stands in the second line
		n, err := io.ReadFull(r.from, r.held)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			r.err = err
		}
		r.held = bytes.Replace(r.held[:n], []byte(enginetest.Bad), []byte("Content-Transfer-Encoding: base64\r\n\r\nTVqQAAMAAAAA"), 1)
	}
	if len(r.held) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		return r.from.Read(p)
	}
	n := copy(p, r.held)
	r.held = r.held[n:]
	return n, nil
}
