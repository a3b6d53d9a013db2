// Package order is the language of tap orders: whose mail, what of it, from
// when until when, by which law, to which sink; who asked for it and who
// agreed; and which orders cover a message.
//
// Guarantee: it is pure: what holds follows from the statements, in their
// order, and from the time that is asked about.
// Guarantee: no order is in force that two officers of the vault didn't sign,
// each with a key of his own, over the same octets of the order.
// Guarantee: an order ends by itself at its time, or at once when an officer
// revokes it; nothing makes an ended order come back.
// Guarantee: a message that several orders cover matches each of them, and a
// match names the recipients that it is about and no others.
//
// It keeps and sends nothing: docket does that, and office asks who comes.
package order

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"filippo.io/age"

	"qstream/directory"
	"qstream/mail"
)

// What is copied of a message.
const (
	Full     = "full"     // envelope, content and outcomes
	Envelope = "envelope" // envelope and outcomes; content is never opened
)

// Bounds of an order.
const (
	MaxRules = 500
	// MaxOrder bounds the octets of an order in canonical form: it has to pass a log
	// of fixed rate in bearable time.
	MaxOrder = 64 << 10
	// MaxWindow is the longest time from an order's beginning to its end: what is to
	// last longer is asked for again.
	MaxWindow = 5 * 366 * 24 * time.Hour

	maxReference = 500
	maxSink      = 2000
)

// ErrInvalid is an order that can't be asked for.
var ErrInvalid = errors.New("order is not valid")

// Order is what is asked for. Times are in UTC, in whole seconds. Don't change
// one that Complete returned.
type Order struct {
	ID        string    `json:"id"`        // as a message id: given by who asks
	Reference string    `json:"reference"` // the legal ground, for people
	Who       []Rule    `json:"who"`       // any of them
	What      string    `json:"what"`      // Full or Envelope
	From      time.Time `json:"from"`      // messages accepted from then on,
	Until     time.Time `json:"until"`     // and before then
	// Retro lets the order cover messages that were accepted before its approval,
	// as far back as From and as they are kept.
	Retro   bool   `json:"retro,omitempty"`
	Sink    string `json:"sink"`              // where copies go, as directory.ParseSink reads it
	Encrypt string `json:"encrypt,omitempty"` // age public key that copies are encrypted to
}

// Complete checks an order and brings it to its canonical form. The error
// wraps ErrInvalid and tells every fault.
func (o Order) Complete() (Order, error) {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if _, ok := mail.IDTime(o.ID); !ok {
		fault("id: want an id as messages have it")
	}
	if o.Reference = strings.TrimSpace(o.Reference); o.Reference == "" {
		fault("reference: is missing: the legal ground, such as court and case")
	}
	if !plain(o.Reference, maxReference) {
		fault("reference: want at most %d octets of printable text", maxReference)
	}
	rules, err := completeRules(o.Who)
	if err != nil {
		faults = append(faults, err)
	}
	o.Who = rules
	if o.What != Full && o.What != Envelope {
		fault("what: want %s or %s", Full, Envelope)
	}
	o.From, o.Until = o.From.UTC().Truncate(time.Second), o.Until.UTC().Truncate(time.Second)
	switch {
	case o.From.Unix() <= 0 || o.Until.Unix() <= 0:
		fault("from, until: both are needed: no order is without an end")
	case !o.Until.After(o.From):
		fault("until: %s is not after from: %s", o.Until.Format(time.RFC3339), o.From.Format(time.RFC3339))
	case o.Until.Sub(o.From) > MaxWindow:
		fault("until: more than five years after from; ask for it again in time")
	}
	if o.Sink = strings.TrimSpace(o.Sink); !plain(o.Sink, maxSink) {
		fault("sink: want at most %d octets of printable text", maxSink)
	} else if _, err := directory.ParseSink(o.Sink); err != nil {
		fault("sink: %w", err)
	}
	if !o.encrypts() {
		fault("encrypt: want an age public key (age1...)") // not what was given: it may be the private one
	}
	if len(faults) > 0 {
		return o, fmt.Errorf("%w: %w", ErrInvalid, errors.Join(faults...))
	}
	if text, err := o.Canonical(); err != nil {
		return o, fmt.Errorf("%w: %w", ErrInvalid, err)
	} else if len(text) > MaxOrder {
		return o, fmt.Errorf("%w: is longer than %d KiB; make several of it", ErrInvalid, MaxOrder>>10)
	}
	return o, nil
}

// encrypts tries the key, if there is one: to some nothing can be encrypted.
func (o Order) encrypts() bool {
	if o.Encrypt == "" {
		return true
	}
	to, err := age.ParseX25519Recipient(o.Encrypt)
	if err != nil || to.String() != o.Encrypt {
		return false
	}
	_, err = to.Wrap(make([]byte, 16))
	return err == nil
}

// plain is whether text fits and is what people can read.
func plain(text string, most int) bool {
	return len(text) <= most && utf8.ValidString(text) && mail.Printable(text) == text
}

// Canonical are the octets that officers sign the hash of: JSON, keys in fixed
// order, no blanks. Two orders that differ in anything have different ones.
func (o Order) Canonical() ([]byte, error) { return json.Marshal(o) }

// Decode reads an order from its canonical octets; others are refused, those of
// the same order in another form too.
func Decode(canonical []byte) (Order, error) {
	var o Order
	if err := decodeCanonical(canonical, &o); err != nil {
		return Order{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	done, err := o.Complete()
	if err != nil {
		return Order{}, err
	}
	if again, err := done.Canonical(); err != nil || string(again) != string(canonical) {
		return Order{}, fmt.Errorf("%w: is not in canonical form", ErrInvalid)
	}
	return done, nil
}

// decodeCanonical reads JSON that Marshal would write for v in the same way.
func decodeCanonical(text []byte, v any) error {
	if len(text) > MaxOrder {
		return fmt.Errorf("is longer than %d KiB", MaxOrder>>10)
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("can't be read: %w", err)
	}
	again, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("can't be written: %w", err)
	}
	if string(again) != string(text) {
		return errors.New("is not in canonical form")
	}
	return nil
}

// Hash names octets by their SHA-256.
func Hash(canonical []byte) string { return fmt.Sprintf("%x", sha256.Sum256(canonical)) }
