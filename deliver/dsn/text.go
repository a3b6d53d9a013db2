package dsn

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"qstream/mail"
)

const (
	maxText = 900 // bytes of a remote reply that are shown
	width   = 76  // where lines are folded
)

// plain makes outside text fit for one line: no controls, bounded, and ASCII
// unless intl. A character that ASCII lacks is written as \x{HEX}, as RFC
// 6533 3 does in addresses.
func plain(s string, intl bool) string {
	if len(s) > maxText {
		s = s[:maxText] + "..."
	}
	s = strings.TrimSpace(mail.Printable(strings.ToValidUTF8(s, "?")))
	if intl || isASCII(s) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if r < utf8.RuneSelf {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\x{%X}`, r)
		}
	}
	return b.String()
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// atom is for what stands inside "<...>" or a field that ends at a blank.
func atom(s string, intl bool) string {
	return strings.Map(func(r rune) rune {
		if r == ' ' || r == '<' || r == '>' {
			return '_'
		}
		return r
	}, plain(s, intl))
}

// field is one header field, folded at blanks; a word longer than a line is
// broken by force.
func field(name, value string) string {
	var b strings.Builder
	b.WriteString(name + ":")
	col := len(name) + 1
	for _, w := range strings.Fields(value) {
		for _, piece := range pieces(w) {
			if col+1+len(piece) > width && col > len(name)+1 {
				b.WriteString("\r\n")
				col = 0
			}
			b.WriteString(" " + piece)
			col += 1 + len(piece)
		}
	}
	b.WriteString("\r\n")
	return b.String()
}

// pieces cuts a word so that none is longer than a line may be.
func pieces(w string) []string {
	const longest = 900
	var ps []string
	for len(w) > longest {
		cut := longest
		for !utf8.RuneStart(w[cut]) {
			cut--
		}
		ps = append(ps, w[:cut])
		w = w[cut:]
	}
	return append(ps, w)
}

// para is text for people, folded, each line after indent.
func para(text, indent string) string {
	var b strings.Builder
	line := ""
	for _, w := range strings.Fields(text) {
		for _, piece := range pieces(w) {
			if line != "" && len(indent)+len(line)+1+len(piece) > width {
				b.WriteString(indent + line + "\r\n")
				line = ""
			}
			if line != "" {
				line += " "
			}
			line += piece
		}
	}
	if line != "" {
		b.WriteString(indent + line + "\r\n")
	}
	return b.String()
}
