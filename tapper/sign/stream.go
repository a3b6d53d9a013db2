package sign

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Signer signs a body that is written to it, for those too large to hold. Not
// safe for concurrent use.
type Signer struct {
	id, stamp string
	macs      []hash.Hash
}

// NewSigner begins a signature; see Headers.
func NewSigner(keys []Key, id string, at time.Time) *Signer {
	s := &Signer{id: id, stamp: strconv.FormatInt(at.Unix(), 10)}
	for _, k := range keys {
		mac := hmac.New(sha256.New, k.octets)
		mac.Write([]byte(id + "." + s.stamp + "."))
		s.macs = append(s.macs, mac)
	}
	return s
}

// Write takes a piece of the body. It never fails.
func (s *Signer) Write(p []byte) (int, error) {
	for _, mac := range s.macs {
		mac.Write(p)
	}
	return len(p), nil
}

// Headers sets the three headers for what was written.
func (s *Signer) Headers(h http.Header) {
	h.Set(IDHeader, s.id)
	h.Set(TimestampHeader, s.stamp)
	var signatures []string
	for _, mac := range s.macs {
		signatures = append(signatures, version+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	if len(signatures) > 0 {
		h.Set(SignatureHeader, strings.Join(signatures, " "))
	}
}
