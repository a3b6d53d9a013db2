package qmail

import (
	"fmt"
	"strings"
)

// AuthOffer is what SMTPAUTH asks of a server for one connection.
type AuthOffer struct {
	Off       bool // AUTH is not there
	Required  bool // before MAIL
	Challenge bool // only mechanisms that never show the password
}

// ParseSMTPAuth reads SMTPAUTH: "" offers all mechanisms, "-" none, "cram"
// those that answer a challenge, "+cram" all; "!" before the last three
// requires one. What else qmail would take for "" is an error.
func ParseSMTPAuth(s string) (AuthOffer, error) {
	text, required := strings.CutPrefix(s, "!")
	o := AuthOffer{Required: required}
	switch strings.TrimSuffix(strings.ToLower(text), "-md5") {
	case "", "+cram":
		return o, nil
	case "cram":
		o.Challenge = true
		return o, nil
	case "-":
		o.Off = true
		if !required {
			return o, nil
		}
	}
	return AuthOffer{}, fmt.Errorf(`%q: SMTPAUTH is "", "-", "cram" or "+cram", or "!", "!cram" or "!+cram"`, s)
}

// TLSOffer is what UCSPITLS asks of a server for one connection.
type TLSOffer struct {
	Off      bool // STARTTLS is not there
	Required bool // before MAIL
	Relay    bool // a client with a certificate may relay; it is asked for one
	Sender   bool // and only by the sender's address that its certificate holds
}

// ParseUCSPITLS reads UCSPITLS: "" offers STARTTLS, "-" doesn't, "!" requires
// it, "?" requires it and lets clients with certificates relay, "@" does that
// for the address in the certificate. What else qmail would take for "" is an
// error.
func ParseUCSPITLS(s string) (TLSOffer, error) {
	switch s {
	case "":
		return TLSOffer{}, nil
	case "-":
		return TLSOffer{Off: true}, nil
	case "!":
		return TLSOffer{Required: true}, nil
	case "?":
		return TLSOffer{Required: true, Relay: true}, nil
	case "@":
		return TLSOffer{Required: true, Relay: true, Sender: true}, nil
	}
	return TLSOffer{}, fmt.Errorf(`%q: UCSPITLS is "", "-", "!", "?" or "@"`, s)
}
