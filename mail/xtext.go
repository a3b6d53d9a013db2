package mail

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ErrXtext is a parameter value that is not xtext (RFC 3461 4), or that hides
// control characters.
var ErrXtext = errors.New("malformed xtext")

const upperHex = "0123456789ABCDEF"

// EncodeXtext writes s as xtext (RFC 3461 4).
func EncodeXtext(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c := s[i]; isXchar(c) {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'+', upperHex[c>>4], upperHex[c&15]})
		}
	}
	return b.String()
}

// DecodeXtext undoes xtext. The result is printable ASCII, as ENVID and ORCPT
// demand (RFC 3461 4.2, 4.4).
func DecodeXtext(s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '+' {
			if i+2 >= len(s) {
				return "", fmt.Errorf("%w: cut short", ErrXtext)
			}
			hi, lo := strings.IndexByte(upperHex, s[i+1]), strings.IndexByte(upperHex, s[i+2])
			if hi < 0 || lo < 0 {
				return "", fmt.Errorf("%w: bad hex", ErrXtext)
			}
			c = byte(hi<<4 | lo)
			i += 2
		} else if !isXchar(c) {
			return "", fmt.Errorf("%w: bad character", ErrXtext)
		}
		if c < ' ' || c > '~' {
			return "", fmt.Errorf("%w: not printable", ErrXtext)
		}
		b.WriteByte(c)
	}
	return b.String(), nil
}

func isXchar(c byte) bool { return c >= '!' && c <= '~' && c != '+' && c != '=' }

// DecodeORCPT reads the value of ORCPT (RFC 3461 4.2, RFC 6533 3) and returns
// "addr-type;address" with the address decoded and the type in lower case.
func DecodeORCPT(s string) (string, error) {
	kind, address, ok := strings.Cut(s, ";")
	kind = strings.ToLower(kind)
	if !ok || kind == "" || address == "" || !isAtom(kind) {
		return "", fmt.Errorf("%w: ORCPT has no type", ErrXtext)
	}
	decode := DecodeXtext
	if kind == "utf-8" {
		decode = decodeUTF8Address
	}
	address, err := decode(address)
	if err != nil {
		return "", err
	}
	return kind + ";" + address, nil
}

// EncodeORCPT writes what DecodeORCPT returned as a parameter's value. utf8
// says whether the transaction uses SMTPUTF8.
func EncodeORCPT(orcpt string, utf8 bool) string {
	kind, address, _ := strings.Cut(orcpt, ";")
	if kind != "utf-8" {
		return kind + ";" + EncodeXtext(address)
	}
	var b strings.Builder
	for _, r := range address {
		if r < 0x80 && r != '\\' && isXchar(byte(r)) || r >= 0x80 && utf8 {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\x{%02X}`, r)
		}
	}
	return kind + ";" + b.String()
}

// decodeUTF8Address undoes utf-8-addr-xtext and utf-8-addr-unitext (RFC 6533
// 3): \x{HEX} beside plain characters.
func decodeUTF8Address(s string) (string, error) {
	if !utf8.ValidString(s) {
		return "", fmt.Errorf("%w: not UTF-8", ErrXtext)
	}
	var b strings.Builder
	for s != "" {
		if rest, ok := strings.CutPrefix(s, `\x{`); ok {
			hex, after, ok := strings.Cut(rest, "}")
			n, err := strconv.ParseUint(hex, 16, 21)
			if !ok || err != nil || !utf8.ValidRune(rune(n)) {
				return "", fmt.Errorf("%w: bad character escape", ErrXtext)
			}
			b.WriteRune(rune(n))
			s = after
			continue
		}
		r, n := utf8.DecodeRuneInString(s)
		if r < 0x80 && (r == '\\' || !isXchar(byte(r))) {
			return "", fmt.Errorf("%w: bad character", ErrXtext)
		}
		b.WriteRune(r)
		s = s[n:]
	}
	if Printable(b.String()) != b.String() {
		return "", fmt.Errorf("%w: not printable", ErrXtext)
	}
	return b.String(), nil
}

func isAtom(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isAtext(s[i]) || s[i] >= 0x80 {
			return false
		}
	}
	return s != ""
}
