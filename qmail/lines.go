package qmail

import (
	"fmt"
	"strings"
)

// MaxText bounds the text of a file that is read as a whole.
const MaxText = 8 << 20

// controlLine is a line of a control file that says something.
type controlLine struct {
	number int
	text   string // without blanks at its end
}

// controlLines are the lines of a control file: blanks at the ends of lines
// don't count, lines that are empty or begin with "#" say nothing.
func controlLines(text string) ([]controlLine, error) {
	if len(text) > MaxText {
		return nil, fmt.Errorf("longer than %d MiB", MaxText>>20)
	}
	var all []controlLine
	for i, l := range strings.Split(text, "\n") {
		l = strings.TrimRight(l, " \t\r")
		if strings.IndexByte(l, 0) >= 0 {
			return nil, &LineError{i + 1, "holds a NUL"}
		}
		if l != "" && l[0] != '#' {
			all = append(all, controlLine{i + 1, l})
		}
	}
	return all, nil
}

// splitMailbox cuts at the last "@"; domain is empty without one.
func splitMailbox(address string) (local, domain string) {
	i := strings.LastIndexByte(address, '@')
	if i < 0 {
		return address, ""
	}
	return address[:i], address[i+1:]
}

// within reports whether name is domain or below it.
func within(name, domain string) bool {
	rest, ok := strings.CutSuffix(name, domain)
	return ok && (rest == "" || strings.HasSuffix(rest, "."))
}
