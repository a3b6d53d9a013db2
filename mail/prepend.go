package mail

import (
	"bytes"
	"io"
)

// Prepended reads what was put before a message and then the message; closing
// it closes body.
func Prepended(head []byte, body io.ReadCloser) io.ReadCloser {
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), body), body}
}
