package qmail

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
)

// Kinds of a Tap: what its pattern is compared with.
const (
	TapEither = 'A' // the sender, or any recipient
	TapFrom   = 'F'
	TapTo     = 'T'
)

// Tap is a line of control/taps: mail that the pattern fits is copied to an
// address. The pattern is a POSIX extended regular expression; case doesn't count,
// and it fits wherever in an address it is found, unless it is anchored.
type Tap struct {
	Line    int
	Kind    byte   // TapEither, TapFrom or TapTo
	Old     bool   // a line without kind, as the first patch had them: TapEither
	Not     bool   // "!" before the pattern: copied if it does not fit
	Pattern string // without "!"
	To      string // who gets the copy
	// Broken says why the pattern is none: there it matched nothing, in silence.
	// With Not, everything.
	Broken error
	re     *regexp.Regexp
}

// maxPattern bounds a pattern's length: what it compiles to grows with it.
const maxPattern = 1000

// ParseTaps reads control/taps: "F:regex:address", "T:...", "A:...", and
// "regex:address" of the older patch. The error is LineErrors.
func ParseTaps(text string) ([]Tap, error) {
	lines, err := controlLines(text)
	if err != nil {
		return nil, err
	}
	var taps []Tap
	var faults LineErrors
	for _, l := range lines {
		t, reason := parseTap(l)
		if reason != "" {
			if len(faults) < maxErrors {
				faults = append(faults, &LineError{l.number, reason})
			}
			continue
		}
		taps = append(taps, t)
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return taps, nil
}

func parseTap(l controlLine) (t Tap, reason string) {
	t = Tap{Line: l.number, Kind: TapEither, Old: true}
	rest := l.text
	if len(rest) > 1 && rest[1] == ':' {
		switch kind := rest[0] &^ 0x20; kind {
		case TapEither, TapFrom, TapTo:
			t.Kind, t.Old, rest = kind, false, rest[2:]
		}
	}
	// An address has no colon, a pattern may have.
	colon := strings.LastIndexByte(rest, ':')
	if colon < 0 {
		return t, `want "F:regex:address", "T:...", "A:..." or "regex:address"`
	}
	t.Pattern, t.To = rest[:colon], strings.TrimSpace(rest[colon+1:])
	t.Pattern, t.Not = strings.CutPrefix(t.Pattern, "!")
	switch {
	case t.Pattern == "":
		return t, "has no pattern"
	case len(t.Pattern) > maxPattern:
		return t, fmt.Sprintf("its pattern is longer than %d octets", maxPattern)
	case t.To == "":
		return t, "has no address for the copies"
	}
	t.re, t.Broken = compileTap(t.Pattern)
	return t, ""
}

// compileTap compiles what regcomp takes with REG_EXTENDED and REG_ICASE. Of what
// it takes and regexp does not (back references, which POSIX leaves open) it says
// so, too.
func compileTap(pattern string) (*regexp.Regexp, error) {
	tree, err := syntax.Parse(pattern, syntax.POSIX|syntax.FoldCase)
	if err != nil {
		return nil, fmt.Errorf("is no regular expression: %w", err)
	}
	re, err := regexp.Compile("(?i)" + tree.String())
	if err != nil {
		return nil, fmt.Errorf("is no regular expression: %w", err)
	}
	return re, nil
}

// Fits is whether an address is one that the line copies.
func (t *Tap) Fits(address string) bool {
	return (t.re != nil && t.re.MatchString(address)) != t.Not
}

// Copies is whether the line copies a message, as qmail-queue looks at it. Of
// several lines that do only the first counts there.
func (t *Tap) Copies(sender string, recipients []string) bool {
	if t.Kind != TapTo && t.Fits(sender) {
		return true
	}
	if t.Kind != TapFrom {
		for _, r := range recipients {
			if t.Fits(r) {
				return true
			}
		}
	}
	return false
}

// Tapped is the first line that copies a message: the only one that does there.
func Tapped(taps []Tap, sender string, recipients []string) (Tap, bool) {
	for i := range taps {
		if taps[i].Copies(sender, recipients) {
			return taps[i], true
		}
	}
	return Tap{}, false
}
