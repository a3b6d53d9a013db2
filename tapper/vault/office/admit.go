package office

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"sync"
	"time"

	"qstream/tapper/vault/order"
)

// Rates of requests.
const (
	officerRate, officerBurst = 2, 30 // a second, and at once
	mostBody                  = 512 << 10
	mostAtOnce                = 32
	nonceSize                 = 16
)

// bucket bounds a rate. The zero value is full.
type bucket struct {
	spent float64
	at    time.Time
}

// take is whether one more is within the rate.
func (b *bucket) take(now time.Time, rate, burst float64) bool {
	if d := now.Sub(b.at).Seconds(); d > 0 {
		b.spent = max(b.spent-d*rate, 0)
	}
	b.at = now
	if b.spent+1 > burst {
		return false
	}
	b.spent++
	return true
}

// admission decides who is heard. Safe for concurrent use.
type admission struct {
	vault  string
	office []byte            // this process: nonces are forgotten at its end
	decoy  ed25519.PublicKey // checked where there is no key, so that it takes as long

	mu       sync.Mutex
	officers map[string]*bucket
	seen     map[[nonceSize]byte]time.Time // nonces of requests that counted
	swept    time.Time
	refused  uint64 // strangers' attempts that are not in the audit yet
}

func newAdmission(vault string) *admission {
	decoy, _, _ := ed25519.GenerateKey(nil) // never fails
	id := make([]byte, nonceSize)
	_, _ = rand.Read(id) // never fails
	return &admission{vault: vault, office: id, decoy: decoy, officers: map[string]*bucket{}, seen: map[[nonceSize]byte]time.Time{}}
}

// verdict of an admission.
type verdict int

const (
	stranger verdict = iota
	tooFast          // an officer, above his rate
	admitted
)

// admit reads a request and says whether it is heard.
func (a *admission) admit(officers order.Officers, body []byte, signature string, now time.Time) (request, verdict) {
	var r request
	ok := json.Unmarshal(body, &r) == nil && r.Format == requestFormat && len(r.Nonce) == nonceSize
	o, known := officers[r.Officer]
	key := o.Key
	if !known || len(key) != ed25519.PublicKeySize {
		key, known = a.decoy, false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if !signed(key, body, signature) || !ok || !known {
		return request{}, a.reject()
	}
	if hello := r.Verb == VerbHello && r.Vault == "" && len(r.Office) == 0; !hello && (r.Vault != a.vault || !bytes.Equal(r.Office, a.office)) {
		return request{}, a.reject()
	}
	if d := now.Sub(r.At); d > Fresh || d < -Fresh {
		return request{}, a.reject()
	}
	nonce := [nonceSize]byte(r.Nonce)
	if _, twice := a.seen[nonce]; twice {
		return request{}, a.reject()
	}
	b := a.officers[r.Officer]
	if b == nil {
		b = &bucket{}
		a.officers[r.Officer] = b
	}
	if !b.take(now, officerRate, officerBurst) {
		return r, tooFast
	}
	a.seen[nonce] = now
	a.forget(now)
	return r, admitted
}

func (a *admission) reject() verdict {
	a.refused++
	return stranger
}

// forget drops nonces of requests that are too old to count again.
func (a *admission) forget(now time.Time) {
	if now.Sub(a.swept) < Fresh && now.After(a.swept) {
		return
	}
	a.swept = now
	for nonce, at := range a.seen {
		if d := now.Sub(at); d > 3*Fresh || d < -3*Fresh {
			delete(a.seen, nonce)
		}
	}
}

// turnedAway counts one who wasn't even looked at.
func (a *admission) turnedAway() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refused++
}

// attempts are strangers' attempts since the last call.
func (a *admission) attempts() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := a.refused
	a.refused = 0
	return n
}
