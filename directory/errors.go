package directory

import (
	"fmt"
	"strings"
)

// Error is one fault of a document.
type Error struct {
	File   string // as given to Parse; may be empty
	Line   int    // from 1; 0 if no line is to blame
	Reason string
}

// Error is "file:line: reason".
func (e *Error) Error() string {
	switch {
	case e.File == "":
		return e.Reason
	case e.Line == 0:
		return e.File + ": " + e.Reason
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Reason)
}

// Errors are all faults that were found, in the order of files and lines.
type Errors []*Error

// Error is one fault a line.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// err is es as an error, nil if there are none.
func (es Errors) err() error {
	if len(es) == 0 {
		return nil
	}
	return es
}
