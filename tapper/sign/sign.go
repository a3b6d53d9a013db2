// Package sign signs what is posted to others' endpoints as Standard Webhooks
// 1.0 says, and checks such a signature.
//
// Guarantee: a signature covers id, timestamp and body, so that none of them
// can be changed or taken from another message. It says nothing of headers
// beside these.
//
// Everything here is pure and safe for concurrent use.
package sign

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The headers of a signed message.
const (
	IDHeader        = "Webhook-Id"
	TimestampHeader = "Webhook-Timestamp"
	SignatureHeader = "Webhook-Signature"
)

// Tolerance is how far a timestamp may be from the receiver's clock.
const Tolerance = 5 * time.Minute

// Lengths of a key in octets.
const (
	MinKey = 24
	MaxKey = 64
)

const (
	prefix  = "whsec_"
	version = "v1,"
)

// Errors that receivers answer differently.
var (
	// ErrSignature is a message without a signature by one of the keys.
	ErrSignature = errors.New("no valid signature")
	// ErrTimestamp is one that is too old, too new or no number: a replay.
	ErrTimestamp = errors.New("timestamp out of tolerance")
)

// Key is a shared secret. It prints as stars.
type Key struct{ octets []byte }

// String hides the key from logs.
func (Key) String() string { return "***" }

// GoString hides the key from logs.
func (Key) GoString() string { return "sign.Key(***)" }

// ParseKey reads a secret as endpoints are given it: "whsec_" and the base64
// (RFC 4648 4, with padding) of 24 to 64 octets. The error never shows it.
func ParseKey(secret string) (Key, error) {
	coded, ok := strings.CutPrefix(secret, prefix)
	if !ok {
		return Key{}, errors.New(`a secret begins with "whsec_"`)
	}
	octets, err := base64.StdEncoding.Strict().DecodeString(coded)
	if err != nil {
		return Key{}, errors.New(`a secret is base64 behind "whsec_"`)
	}
	if len(octets) < MinKey || len(octets) > MaxKey {
		return Key{}, fmt.Errorf("a secret has %d to %d octets, this one %d", MinKey, MaxKey, len(octets))
	}
	return Key{octets}, nil
}

// ParseKeys reads several secrets: the current one first, and those that
// receivers may still have.
func ParseKeys(secrets []string) ([]Key, error) {
	keys := make([]Key, 0, len(secrets))
	for i, s := range secrets {
		key, err := ParseKey(s)
		if err != nil {
			return nil, fmt.Errorf("secret %d: %w", i+1, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// Headers sets the three headers on h: one signature per key, so that secrets
// can be changed without a gap. The id has no dot, which parts what is signed;
// it is the same at every repetition, while the time is that of the attempt.
func Headers(h http.Header, keys []Key, id string, at time.Time, body []byte) {
	stamp := strconv.FormatInt(at.Unix(), 10)
	signatures := make([]string, len(keys))
	for i, k := range keys {
		signatures[i] = version + base64.StdEncoding.EncodeToString(k.sum(id, stamp, body))
	}
	h.Set(IDHeader, id)
	h.Set(TimestampHeader, stamp)
	if len(signatures) > 0 {
		h.Set(SignatureHeader, strings.Join(signatures, " "))
	}
}

// Verify checks a message that came with h and body at the time now. It is nil
// if one of the signatures is by one of the keys and the time is within
// Tolerance, else ErrSignature or ErrTimestamp. Signatures of versions other
// than v1 are passed over.
func Verify(h http.Header, keys []Key, now time.Time, body []byte) error {
	stamp := h.Get(TimestampHeader)
	at, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return ErrTimestamp
	}
	if d := now.Sub(time.Unix(at, 0)); d > Tolerance || d < -Tolerance {
		return ErrTimestamp
	}
	id := h.Get(IDHeader)
	for s := range strings.FieldsSeq(h.Get(SignatureHeader)) {
		coded, ok := strings.CutPrefix(s, version)
		if !ok {
			continue
		}
		got, err := base64.StdEncoding.DecodeString(coded)
		if err != nil {
			continue
		}
		for _, k := range keys {
			if hmac.Equal(got, k.sum(id, stamp, body)) {
				return nil
			}
		}
	}
	return ErrSignature
}

func (k Key) sum(id, stamp string, body []byte) []byte {
	mac := hmac.New(sha256.New, k.octets)
	mac.Write([]byte(id + "." + stamp + "."))
	mac.Write(body)
	return mac.Sum(nil)
}
