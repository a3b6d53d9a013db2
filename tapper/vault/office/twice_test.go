package office

import (
	"net/http"
	"testing"

	"qstream/bus/bustest"
)

// A request that somebody saw is refused after a start, too: the process knows
// nothing of its nonce, and it is fresh.
func TestNoRequestTwice(t *testing.T) {
	broker, c, f := bustest.Start(t), &clock{}, newFolder(t)
	p := start(t, broker, f, c, nil)
	send := func(body []byte) int {
		status, _, _ := post(t, p, http.MethodPost, path, sign(key("ann"), body), body)
		return status
	}
	seen := p.body(nil)
	if first, second := send(seen), send(seen); first != http.StatusOK || second != http.StatusNotFound {
		t.Fatalf("a request: %d, again: %d", first, second)
	}
	p.stop()
	p = start(t, broker, f, c, nil)
	if status := send(seen); status != http.StatusNotFound {
		t.Errorf("the request once more after a start: %d", status)
	}
	if status := send(p.body(nil)); status != http.StatusOK {
		t.Errorf("a new request: %d", status)
	}
}
