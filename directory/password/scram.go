package password

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Iterations of a new verifier: what RFC 7677 4 recommends. The client bears
// their cost.
const Iterations = 15_000

const (
	minIterations = 4096 // RFC 7677 4
	maxIterations = 1_000_000
	scheme        = "SCRAM-SHA-256"
)

var errVerifier = errors.New("is no SCRAM verifier (SCRAM-SHA-256$15000:salt$stored:server)")

// Verifier is what a server keeps for SCRAM-SHA-256 (RFC 5802 3).
type Verifier struct {
	Iterations int
	Salt       []byte
	StoredKey  []byte // 32 octets
	ServerKey  []byte // 32 octets
}

// NewVerifier makes a verifier of a prepared password, with a new salt.
func NewVerifier(prepared string) Verifier {
	return derive(prepared, salt(), Iterations)
}

func derive(prepared string, salt []byte, iterations int) Verifier {
	salted, err := pbkdf2.Key(sha256.New, prepared, salt, iterations, sha256.Size)
	if err != nil { // only with a hash or a length that isn't allowed
		return Verifier{Iterations: iterations, Salt: salt}
	}
	client := sha256.Sum256(MAC(salted, "Client Key"))
	return Verifier{Iterations: iterations, Salt: salt, StoredKey: client[:], ServerKey: MAC(salted, "Server Key")}
}

// MAC is HMAC-SHA-256.
func MAC(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

// Matches reports whether the verifier is of a prepared password, for clients
// that send it in plain text.
func (v Verifier) Matches(prepared string) bool {
	got := derive(prepared, v.Salt, v.Iterations)
	return len(got.StoredKey) > 0 && subtle.ConstantTimeCompare(got.StoredKey, v.StoredKey) == 1
}

// String is the verifier as RFC 5803 and PostgreSQL write it.
func (v Verifier) String() string {
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("%s$%d:%s$%s:%s", scheme, v.Iterations, b64(v.Salt), b64(v.StoredKey), b64(v.ServerKey))
}

// ParseVerifier reads what String writes. Errors don't repeat the text.
func ParseVerifier(s string) (v Verifier, err error) {
	parts := strings.Split(s, "$")
	if len(parts) != 3 || parts[0] != scheme {
		return Verifier{}, errVerifier
	}
	count, salt, ok := strings.Cut(parts[1], ":")
	stored, server, both := strings.Cut(parts[2], ":")
	if v.Iterations, err = strconv.Atoi(count); !ok || !both || err != nil || strconv.Itoa(v.Iterations) != count {
		return Verifier{}, errVerifier
	}
	for _, part := range []struct {
		into *[]byte
		text string
	}{{&v.Salt, salt}, {&v.StoredKey, stored}, {&v.ServerKey, server}} {
		if *part.into, err = base64.StdEncoding.Strict().DecodeString(part.text); err != nil {
			return Verifier{}, errVerifier
		}
	}
	switch {
	case v.String() != s: // the decoder overlooks line ends
		return Verifier{}, errVerifier
	case len(v.Salt) < 8 || len(v.Salt) > 64 || len(v.StoredKey) != sha256.Size || len(v.ServerKey) != sha256.Size:
		return Verifier{}, errVerifier
	case v.Iterations < minIterations || v.Iterations > maxIterations:
		return Verifier{}, fmt.Errorf("wants from %d to %d iterations", minIterations, maxIterations)
	}
	return v, nil
}
