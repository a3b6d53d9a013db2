package auth

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"

	"qstream/directory"
	"qstream/directory/password"
)

// scram is the server of SCRAM-SHA-256 (RFC 5802, RFC 7677), with channel
// binding if binding is set (tls-exporter, RFC 9266).
type scram struct {
	x       *Exchange
	binding []byte
	offered bool // the variant with channel binding is offered, too

	step     int
	gs2      string // header of the client's first message
	bare     string // the rest of it
	first    string // our first message
	nonce    string
	identity string
	user     string // empty: no such user
	verifier password.Verifier
}

// bindingType is what channels are bound by.
const bindingType = "tls-exporter"

// maxNonce keeps our first message within a reply line.
const maxNonce = 200

func malformed(what string) error { return fmt.Errorf("%w: %s", ErrMalformed, what) }

// Next is a step of the exchange.
func (s *scram) Next(response []byte) (challenge []byte, done bool, err error) {
	switch s.step {
	case 0:
		if response == nil {
			return []byte{}, false, nil
		}
		s.step = 1
		challenge, err = s.begin(string(response))
		return challenge, false, err
	case 1:
		s.step = 2
		challenge, err = s.prove(string(response))
		return challenge, false, err
	}
	// The client has seen our proof; SMTP wants a last empty response.
	if len(response) > 0 {
		return nil, false, malformed("more than an empty response at the end")
	}
	s.x.who = Identity{User: s.user}
	return nil, true, s.x.as(s.identity)
}

// begin answers the client's first message.
func (s *scram) begin(message string) ([]byte, error) {
	parts := strings.SplitN(message, ",", 3)
	if len(parts) < 3 {
		return nil, malformed("first message")
	}
	if err := s.bind(parts[0]); err != nil {
		return nil, err
	}
	if parts[1] != "" {
		name, ok := strings.CutPrefix(parts[1], "a=")
		if !ok {
			return nil, malformed("authorization identity")
		}
		if s.identity, ok = saslName(name); !ok {
			return nil, malformed("authorization identity")
		}
	}
	s.gs2, s.bare = parts[0]+","+parts[1]+",", parts[2]
	user, nonce, err := parseFirst(s.bare)
	if err != nil {
		return nil, err
	}
	s.nonce = nonce + rand.Text()
	s.find(user)
	s.first = fmt.Sprintf("r=%s,s=%s,i=%d", s.nonce, base64.StdEncoding.EncodeToString(s.verifier.Salt), s.verifier.Iterations)
	return []byte(s.first), nil
}

// bind looks at what the client says of channel binding (RFC 5802 6).
func (s *scram) bind(flag string) error {
	switch {
	case s.binding != nil && flag == "p="+bindingType, s.binding == nil && flag == "n":
		return nil
	case s.binding == nil && flag == "y":
		if s.x.checked = true; s.offered { // somebody took it from our offer on the way
			return fmt.Errorf("%w: channel binding was hidden from the client", ErrRejected)
		}
		return nil
	}
	return malformed("channel binding")
}

// parseFirst reads the first message without its header: n=user,r=nonce, and
// extensions, which are ignored unless they are mandatory.
func parseFirst(bare string) (user, nonce string, err error) {
	attributes := strings.Split(bare, ",")
	if len(attributes) < 2 {
		return "", "", malformed("first message")
	}
	name, ok := strings.CutPrefix(attributes[0], "n=") // a mandatory extension would stand here (m=)
	if !ok {
		return "", "", malformed("user or unknown extension")
	}
	if user, ok = saslName(name); !ok || user == "" {
		return "", "", malformed("user")
	}
	nonce, ok = strings.CutPrefix(attributes[1], "r=")
	if !ok || nonce == "" || len(nonce) > maxNonce || strings.ContainsFunc(nonce, func(r rune) bool { return r < '!' || r > '~' }) {
		return "", "", malformed("nonce")
	}
	return user, nonce, nil
}

// saslName undoes the escapes of "," and "=".
func saslName(s string) (string, bool) {
	plain := strings.NewReplacer("=2C", ",", "=3D", "=").Replace(s)
	return plain, strings.Count(s, "=") == strings.Count(s, "=2C")+strings.Count(s, "=3D")
}

// find looks the user up. One that can't sign in gets a salt that stays the
// same and a proof that never fits.
func (s *scram) find(user string) {
	s.x.checked = true
	snap := s.x.a.deps.Snapshot()
	name, err := directory.NormalUser(user)
	if u := snap.Credential(name); err == nil && u != nil {
		s.x.failed = name
		if u.SCRAM != nil && u.Admits(s.x.client.Addr) {
			s.user, s.verifier = name, *u.SCRAM
			return
		}
	}
	if err != nil {
		name = user
	}
	s.verifier = password.Verifier{
		Iterations: password.Iterations,
		Salt:       password.MAC(snap.Decoy(), name)[:16],
		StoredKey:  make([]byte, sha256.Size), ServerKey: make([]byte, sha256.Size),
	}
}

// prove checks the client's proof and answers with ours.
func (s *scram) prove(message string) ([]byte, error) {
	i := strings.LastIndex(message, ",p=")
	if i < 0 {
		return nil, malformed("final message")
	}
	without := message[:i]
	proof, err := base64.StdEncoding.Strict().DecodeString(message[i+3:])
	if err != nil || len(proof) != sha256.Size || strings.ContainsAny(message, "\r\n") {
		return nil, malformed("proof")
	}
	attributes := strings.Split(without, ",")
	if len(attributes) < 2 || attributes[1] != "r="+s.nonce {
		return nil, malformed("nonce")
	}
	bound := "c=" + base64.StdEncoding.EncodeToString(append([]byte(s.gs2), s.binding...))
	text := s.bare + "," + s.first + "," + without
	signature := password.MAC(s.verifier.StoredKey, text)
	key := make([]byte, sha256.Size)
	subtle.XORBytes(key, proof, signature)
	stored := sha256.Sum256(key)
	fits := hmac.Equal(stored[:], s.verifier.StoredKey)
	if !fits || s.user == "" || !bytes.Equal([]byte(attributes[0]), []byte(bound)) {
		return nil, fmt.Errorf("%w: wrong proof", ErrRejected)
	}
	return []byte("v=" + base64.StdEncoding.EncodeToString(password.MAC(s.verifier.ServerKey, text))), nil
}

// bindingOf is what a client's channel is bound by (RFC 9266); nil where that
// isn't safe: without TLS, or in TLS 1.2 without extended master secrets.
func bindingOf(c Client) []byte {
	if c.TLS == nil {
		return nil
	}
	b, err := c.TLS.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
	if err != nil {
		return nil
	}
	return b
}
