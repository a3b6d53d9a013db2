package order

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"qstream/mail"
)

// Verbs of statements.
const (
	Request = "request"
	Approve = "approve"
	Revoke  = "revoke" // ends an order, or takes back what waits for approval
)

// Subjects of statements.
const (
	SubjectOrder   = "order"
	SubjectOfficer = "officer"
)

// Fresh is how far a statement's time may be from when it is taken: an old one
// that somebody kept back is refused.
const Fresh = 10 * time.Minute

// ApproveWithin is how long a request waits for its approval; then it lapses.
const ApproveWithin = 7 * 24 * time.Hour

// Why a statement is refused.
var (
	ErrForged = errors.New("statement is not signed by an officer of the vault")
	ErrStale  = errors.New("statement is not of now")
	ErrOwn    = errors.New("another officer must approve than the one who asked")
	ErrState  = errors.New("not possible as things stand")
	ErrNone   = errors.New("no such order or change")
	ErrRepeat = errors.New("that was asked for already")
)

const statementFormat = "qstream-tap-statement-1"

// Statement is what an officer signs.
type Statement struct {
	Format  string    `json:"format"`
	Vault   string    `json:"vault"`
	Officer string    `json:"officer"`
	At      time.Time `json:"at"`
	Verb    string    `json:"verb"`
	Subject string    `json:"subject"`
	ID      string    `json:"id"`   // of the subject
	Hash    string    `json:"hash"` // of the subject's canonical octets
}

// Signed is a statement with its signature, and, for a request, the octets of
// what is asked for.
type Signed struct {
	Statement []byte `json:"statement"` // canonical JSON
	Signature []byte `json:"signature"`
	Subject   []byte `json:"subject,omitempty"`
}

// Change is of the officers: one is added, or one is removed.
type Change struct {
	ID     string   `json:"id"`
	Add    *Officer `json:"add,omitempty"`
	Remove string   `json:"remove,omitempty"`
	// Base is the number of changes that the officers had when this one was asked
	// for: it counts only if there was none between.
	Base uint64 `json:"base"`
}

// Canonical are the octets that officers sign the hash of.
func (c Change) Canonical() ([]byte, error) { return json.Marshal(c) }

// DecodeChange reads what Canonical wrote, and nothing else.
func DecodeChange(canonical []byte) (Change, error) {
	var c Change
	err := decodeCanonical(canonical, &c)
	if _, ok := mail.IDTime(c.ID); err == nil && !ok {
		err = errors.New("id: want an id as messages have it")
	}
	if err == nil && (c.Add == nil) == (c.Remove == "") {
		err = errors.New("adds or removes one officer")
	}
	if err == nil && c.Add != nil {
		err = c.Add.Check()
	}
	if err == nil && c.Add == nil && !validName(c.Remove) {
		err = errors.New("remove: want the name of an officer")
	}
	if err != nil {
		return Change{}, fmt.Errorf("change of the officers: %w", err)
	}
	return c, nil
}

// Signer is an officer with his private key.
type Signer struct {
	Vault string // its ID
	Name  string
	Key   ed25519.PrivateKey
}

// signing is put before what is signed, so that a signature over a statement is
// one over nothing else.
const signing = statementFormat + "\n"

// sign makes a statement about a subject.
func (s Signer) sign(now time.Time, verb, subject, id, hash string) (Signed, error) {
	text, err := json.Marshal(Statement{
		Format: statementFormat, Vault: s.Vault, Officer: s.Name, At: now.UTC().Truncate(time.Millisecond),
		Verb: verb, Subject: subject, ID: id, Hash: hash,
	})
	if err != nil {
		return Signed{}, fmt.Errorf("write the statement: %w", err)
	}
	return Signed{Statement: text, Signature: ed25519.Sign(s.Key, append([]byte(signing), text...))}, nil
}

// RequestOrder asks for an order, which is completed first.
func (s Signer) RequestOrder(now time.Time, o Order) (Signed, error) {
	o, err := o.Complete()
	if err != nil {
		return Signed{}, err
	}
	text, err := o.Canonical()
	if err != nil {
		return Signed{}, err
	}
	signed, err := s.sign(now, Request, SubjectOrder, o.ID, Hash(text))
	signed.Subject = text
	return signed, err
}

// RequestChange asks for a change of the officers.
func (s Signer) RequestChange(now time.Time, c Change) (Signed, error) {
	text, err := c.Canonical()
	if err == nil {
		_, err = DecodeChange(text)
	}
	if err != nil {
		return Signed{}, err
	}
	signed, err := s.sign(now, Request, SubjectOfficer, c.ID, Hash(text))
	signed.Subject = text
	return signed, err
}

// Answer agrees to, or revokes, what is known by its id and hash.
func (s Signer) Answer(now time.Time, verb, subject, id, hash string) (Signed, error) {
	if verb != Approve && verb != Revoke {
		return Signed{}, fmt.Errorf("%s answers nothing", mail.Printable(verb))
	}
	return s.sign(now, verb, subject, id, hash)
}

// open reads a statement of a vault and checks its form, but not yet whether who
// signed it is an officer.
func (s Signed) open(vault string) (Statement, error) {
	var st Statement
	if err := decodeCanonical(s.Statement, &st); err != nil {
		return Statement{}, fmt.Errorf("%w: %w", ErrForged, err)
	}
	if st.Format != statementFormat || st.Vault != vault {
		return Statement{}, fmt.Errorf("%w: it is about another vault", ErrForged)
	}
	if (st.Verb == Request) != (len(s.Subject) > 0) || st.Verb == Request && Hash(s.Subject) != st.Hash {
		return Statement{}, fmt.Errorf("%w: it is about something else than what comes with it", ErrForged)
	}
	return st, nil
}

// signedBy is whether the signature is of that key.
func (s Signed) signedBy(key ed25519.PublicKey) bool {
	return len(key) == ed25519.PublicKeySize && ed25519.Verify(key, append([]byte(signing), s.Statement...), s.Signature)
}
