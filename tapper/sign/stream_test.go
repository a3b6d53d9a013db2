package sign

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestSigner: a body in pieces is signed as the whole one is.
func TestSigner(t *testing.T) {
	keys := []Key{key(t, exampleSecret), key(t, secret('x', 32))}
	at := time.Unix(exampleTime, 0)
	whole, pieces := http.Header{}, http.Header{}
	Headers(whole, keys, exampleID, at, []byte(exampleBody))
	s := NewSigner(keys, exampleID, at)
	for i := range len(exampleBody) {
		_, _ = s.Write([]byte(exampleBody[i : i+1]))
	}
	s.Headers(pieces)
	if d := cmp.Diff(whole, pieces); d != "" {
		t.Error(d)
	}
}
