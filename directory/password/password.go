// Package password makes and checks what is stored instead of a password: an
// argon2id hash (RFC 9106), and a SCRAM-SHA-256 verifier (RFC 5802, RFC 7677).
//
// Guarantee: neither tells the password, and a check takes the same time for
// a wrong one as for the right one.
// Guarantee: what Parse and ParseVerifier take costs at most MaxMemory and
// about a second; a document can't make a check cost more.
//
// It bounds no number of checks at once; who checks does.
package password

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/secure/precis"
)

// What New computes: OWASP's first choice for argon2id with little memory,
// about 30 ms and 19 MiB.
const (
	Memory  = 19 << 10 // KiB
	Passes  = 2
	Threads = 1
)

// Bounds of a hash that Parse takes.
const (
	MaxMemory  = 256 << 10 // KiB
	maxPasses  = 64
	maxThreads = 16
	maxCost    = 4 << 20 // KiB times passes
)

// maxLength is the longest password, in octets.
const maxLength = 1024

var (
	errLength = errors.New("a password has 1 to 1024 octets")
	errHash   = errors.New("is no argon2id hash in PHC form ($argon2id$v=19$m=19456,t=2,p=1$salt$hash)")
)

// Prepare is a password in the form in which it is compared (RFC 8265
// OpaqueString): spaces and Unicode may be typed in several ways. The error
// says nothing about what the password is.
func Prepare(password string) (string, error) {
	if len(password) == 0 || len(password) > maxLength {
		return "", errLength
	}
	p, err := precis.OpaqueString.String(password)
	if err != nil || !utf8.ValidString(password) {
		return "", errors.New("the password holds characters that can't be in one")
	}
	return p, nil
}

// Hash is an argon2id hash and what it was made with.
type Hash struct {
	Memory  uint32 // KiB
	Passes  uint32
	Threads uint8
	Salt    []byte
	Key     []byte
}

// New hashes a prepared password with a new salt.
func New(prepared string) Hash {
	h := Hash{Memory: Memory, Passes: Passes, Threads: Threads, Salt: salt(), Key: make([]byte, 32)}
	h.Key = h.derive(prepared)
	return h
}

func salt() []byte {
	s := make([]byte, 16)
	_, _ = rand.Read(s) // never fails
	return s
}

func (h Hash) derive(prepared string) []byte {
	return argon2.IDKey([]byte(prepared), h.Salt, h.Passes, h.Memory, h.Threads, uint32(len(h.Key)))
}

// Matches reports whether the hash is of a prepared password. It takes
// h.Memory of memory.
func (h Hash) Matches(prepared string) bool {
	return subtle.ConstantTimeCompare(h.derive(prepared), h.Key) == 1
}

// String is the hash in PHC form.
func (h Hash) String() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.Memory, h.Passes, h.Threads,
		base64.RawStdEncoding.EncodeToString(h.Salt), base64.RawStdEncoding.EncodeToString(h.Key))
}

// Parse reads the PHC form, which other programs write, too. Errors don't
// repeat the text.
func Parse(s string) (h Hash, err error) {
	parts := strings.Split(s, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return Hash{}, errHash
	}
	var written string
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &h.Memory, &h.Passes, &h.Threads); err == nil {
		written = fmt.Sprintf("m=%d,t=%d,p=%d", h.Memory, h.Passes, h.Threads)
	}
	if written != parts[3] {
		return Hash{}, errHash
	}
	if h.Salt, err = base64.RawStdEncoding.Strict().DecodeString(parts[4]); err != nil {
		return Hash{}, errHash
	}
	if h.Key, err = base64.RawStdEncoding.Strict().DecodeString(parts[5]); err != nil {
		return Hash{}, errHash
	}
	if h.String() != s { // the decoder overlooks line ends
		return Hash{}, errHash
	}
	return h, h.check()
}

func (h Hash) check() error {
	switch {
	case len(h.Salt) < 8 || len(h.Salt) > 64 || len(h.Key) < 16 || len(h.Key) > 64:
		return errors.New("has a salt that isn't 8 to 64 octets long, or a hash that isn't 16 to 64")
	case h.Threads < 1 || h.Threads > maxThreads || h.Passes < 1 || h.Passes > maxPasses:
		return fmt.Errorf("wants passes (t) from 1 to %d and threads (p) from 1 to %d", maxPasses, maxThreads)
	case h.Memory < 8*uint32(h.Threads) || h.Memory > MaxMemory:
		return fmt.Errorf("wants memory (m) from 8 for each thread to %d KiB", MaxMemory)
	case uint64(h.Memory)*uint64(h.Passes) > maxCost:
		return fmt.Errorf("costs too much at each use: m times t is above %d", maxCost)
	}
	return nil
}
