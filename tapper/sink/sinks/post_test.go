package sinks

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestNoURLInErrors: the error of a store that is down goes to logs and to the
// archives topic, without a secret that its URL holds.
func TestNoURLInErrors(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	p := newPoster(nil)
	defer p.close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/token-in-the-path?key=secret", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.do(r, nil); err == nil || strings.Contains(err.Error(), "token") || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
}
