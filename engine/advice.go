package engine

import (
	"errors"
	"fmt"
	"strings"

	"qstream/mail"
)

// Limits of a verdict.
const (
	MaxSymbols = 500
	MaxOptions = 5
	MaxChanges = 100
	maxName    = 76
	maxValue   = 16 << 10
)

// Advice is what an engine would have done with the message.
type Advice uint8

const (
	NoAdvice   Advice = iota
	Tag               // deliver, marked
	Defer             // refuse for now
	Quarantine        // keep back
	Discard           // drop without a word
	Refuse            // refuse for good
)

var advices = [...]string{"none", "tag", "defer", "quarantine", "discard", "refuse"}

// String is the advice in lower case.
func (a Advice) String() string { return advices[a] }

// Symbol is one rule that matched.
type Symbol struct {
	Name    string
	Score   float64
	Options []string // what it matched; at most MaxOptions
}

// ChangeKind says what a Change does.
type ChangeKind uint8

const (
	AddField     ChangeKind = iota // at the end of the header
	InsertField                    // before the field at Index, counted from 0 in all of the header
	ReplaceField                   // the field at Index, counted from 1 among those of its name; one more is added beyond them
	DeleteField                    // likewise; Index 0: all of them
)

// Change is what an engine wants done to the header. It is kept beside
// content, which never changes. Fields are counted as they are before any
// change; of two that are inserted at one place the later is in front, as filters
// know it from smfi_insheader.
type Change struct {
	Kind  ChangeKind
	Index int
	Name  string
	// Value is without the blank behind the colon; its lines are ended by CRLF
	// and begin with a blank or tab, except the first.
	Value string
}

// ErrField is a header field that can't be written: its name is none, or its
// value is too long.
var ErrField = errors.New("no header field")

// NewChange makes a change of what an engine said. A value never ends its
// field: line endings fold, other control characters become spaces.
func NewChange(kind ChangeKind, index int, name, value string) (Change, error) {
	if name == "" || len(name) > maxName || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ':' }) {
		return Change{}, fmt.Errorf("%w: %q", ErrField, Text(name))
	}
	if len(value) > maxValue {
		return Change{}, fmt.Errorf("%w: %s of %d bytes", ErrField, name, len(value))
	}
	lines := strings.Split(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(value), "\n")
	kept := lines[:1]
	kept[0] = strings.TrimSpace(printable(lines[0]))
	for _, l := range lines[1:] {
		if l = strings.TrimSpace(printable(l)); l != "" { // a line of blanks would be no fold (RFC 5322 3.2.2)
			kept = append(kept, "\t"+l)
		}
	}
	return Change{Kind: kind, Index: max(index, 0), Name: name, Value: strings.Join(kept, "\r\n")}, nil
}

func printable(s string) string { return mail.Printable(strings.ReplaceAll(s, "\t", " ")) }
