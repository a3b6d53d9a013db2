// Package qmail reads formats of the qmail world, so that an operator's files
// are taken as they are: tcprules, the lists of bad senders, recipients and
// greetings, sender rules, recipients files, kinds of content, qmail-smtpd's
// variables, cdb files.
//
// Guarantee: it is pure; what outside text makes it hold is bounded by the
// text's length.
// Guarantee: text that is not understood is an error with its line, never
// passed over: a rule that does nothing is worse than one that is refused.
// Guarantee: what it makes of a text is immutable; looking something up costs
// bounded time and memory, whoever wrote the text.
package qmail

import (
	"fmt"
	"strings"
)

// LineError is a line of a file that is not understood.
type LineError struct {
	Line   int // from 1
	Reason string
}

// Error is "line 3: reason".
func (e *LineError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Reason) }

// LineErrors are all faults of a file, in the order of its lines, but no more
// than maxErrors.
type LineErrors []*LineError

// maxErrors bounds what is told about a file that is of another kind.
const maxErrors = 50

// Error is one fault a line.
func (es LineErrors) Error() string {
	texts := make([]string, len(es))
	for i, e := range es {
		texts[i] = e.Error()
	}
	return strings.Join(texts, "\n")
}
