package wire

import (
	"errors"
	"io"
)

// TextReader reads content from a stream that ends where the content does,
// whose lines end in LF or CRLF.
type TextReader struct {
	r    *Reader
	dec  decoder
	err  error // of the stream
	over bool  // the stream has ended
}

// TextFrom starts reading the content that r is. In the content lines end in
// CRLF, also the last one; a CR anywhere else and a NUL are stray.
func TextFrom(r io.Reader, o Options) *TextReader {
	in := NewReader(r)
	in.widen()
	return &TextReader{r: in, dec: decoder{Options: o, unix: true}}
}

// Close gives the reader's buffer back.
func (t *TextReader) Close() { t.r.Close() }

// Read reads content. An error is final.
func (t *TextReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for t.err == nil && t.dec.err == nil {
		if !t.over && len(t.dec.owed) == 0 && t.r.Buffered() == 0 {
			if err := t.r.fill(); errors.Is(err, io.EOF) {
				t.over = true
				t.dec.finish()
			} else if err != nil {
				t.err = err
				break
			}
		}
		n, used, _ := t.dec.decode(p, t.r.buf[t.r.start:t.r.end])
		t.r.start += used
		if n > 0 {
			return n, nil
		}
		if t.over && len(t.dec.owed) == 0 && t.dec.err == nil {
			t.err = io.EOF
		}
	}
	if t.dec.err != nil {
		return 0, t.dec.err
	}
	return 0, t.err
}
