package qmail

import (
	"strconv"
	"strings"
)

// RecipientMethod is how a line of a recipients file answers.
type RecipientMethod int

// Methods.
const (
	TakeAll   RecipientMethod = iota // "!domain", and "!*" for domains without a line: every recipient exists
	AskCDB                           // "domain:file": the cdb holds them
	AskHelper                        // "domain|program arguments": the program knows
)

// RecipientLine is a line of a recipients file. Don't change it.
type RecipientLine struct {
	Line   int
	Method RecipientMethod
	File   string   // AskCDB
	Args   []string // AskHelper: the program and at most five arguments

	domain string // "" for every one
	exact  bool   // not the domains below it
	rest   bool   // only for domains without a line of their own
}

// Recipients is a recipients file: where to ask whether a mailbox exists. It
// is immutable.
type Recipients struct{ lines []RecipientLine }

// maxHelperArgs is how many arguments a program gets.
const maxHelperArgs = 5

// ParseRecipients reads a recipients file: "domain:cdb", "domain|program",
// "@domain:cdb" for that domain alone, "*:cdb" for all, "!domain" for one that
// is not asked about, "!*" for all that have no line, or "cdb" alone for
// these. Errors are LineErrors.
func ParseRecipients(text string) (*Recipients, error) {
	lines, err := controlLines(text)
	if err != nil {
		return nil, err
	}
	r := &Recipients{}
	for _, c := range lines {
		l, reason := recipientLine(c.text)
		if reason != "" {
			return nil, &LineError{c.number, reason}
		}
		l.Line = c.number
		r.lines = append(r.lines, l)
	}
	return r, nil
}

func recipientLine(text string) (l RecipientLine, reason string) {
	if domain, ok := strings.CutPrefix(text, "!"); ok {
		if domain == "" || strings.ContainsAny(domain, ":| ") {
			return l, "wants !domain or !*"
		}
		l.rest = domain == "*"
		if domain = strings.TrimPrefix(domain, "@"); domain != "*" {
			l.domain, l.exact = strings.ToLower(domain), true
		}
		return l, ""
	}
	at := strings.IndexAny(text, ":|")
	if at < 0 {
		l.Method, l.File, l.rest = AskCDB, text, true
		return l, ""
	}
	l.domain = strings.ToLower(text[:at])
	if l.domain == "" || strings.ContainsAny(l.domain, " \t/") {
		return l, strconv.Quote(text[:at]) + " is no domain"
	}
	if l.domain == "*" {
		l.domain = ""
	}
	l.domain, l.exact = strings.CutPrefix(l.domain, "@")
	return l, l.method(text[at], text[at+1:])
}

func (l *RecipientLine) method(sign byte, what string) (reason string) {
	if sign == ':' {
		l.Method, l.File = AskCDB, strings.TrimSpace(what)
		if l.File == "" {
			return "names no cdb"
		}
		return ""
	}
	l.Method, l.Args = AskHelper, strings.Fields(what)
	if len(l.Args) == 0 {
		return "names no program"
	}
	if len(l.Args) > maxHelperArgs+1 {
		return "a program gets at most five arguments"
	}
	return ""
}

// For are the lines to be asked, in order, about recipients of a domain. The
// first positive answer counts; without one the recipient doesn't exist. A
// line that takes all is the last.
func (r *Recipients) For(domain string) []RecipientLine {
	domain = strings.ToLower(domain)
	var all []RecipientLine
	named := false // a line names the domain
	for _, l := range r.lines {
		switch {
		case l.rest && named, !l.matches(domain):
			continue
		case l.domain != "":
			named = true
		}
		all = append(all, l)
		if l.Method == TakeAll {
			return all
		}
	}
	return all
}

func (l *RecipientLine) matches(domain string) bool {
	return l.domain == "" || l.domain == domain || !l.exact && within(domain, l.domain)
}

// Files are the cdb files that any line names.
func (r *Recipients) Files() []string {
	var all []string
	for _, l := range r.lines {
		if l.Method == AskCDB {
			all = append(all, l.File)
		}
	}
	return all
}

// Extension is the address without its extension, as recipient files know it:
// "me-list@acme.example" is "me-@acme.example". ok is false without one.
func Extension(address string) (base string, ok bool) {
	local, domain := splitMailbox(address)
	i := strings.IndexByte(local, '-')
	if i < 0 || i == len(local)-1 {
		return "", false
	}
	return local[:i+1] + "@" + domain, true
}

// RecipientKey is what a recipients cdb holds for an address, as fastforward's
// do.
func RecipientKey(address string) string { return ":" + strings.ToLower(address) }
