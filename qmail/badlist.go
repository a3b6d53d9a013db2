package qmail

import "strings"

// List is what badmailfrom, badrcptto and badhelo hold. It is immutable.
//
// A line is an address or "@host" to be refused, or a pattern as wildmat reads
// it. Patterns are looked at in order and the last that fits decides; "!"
// before one makes it an exception. Lines without pattern characters may be
// extended: "-" behind them counts only for clients without a reverse name,
// "=" for those whose name is not the address's domain or below it, "+" for
// those that may not relay; "~name" refuses clients of that name whose
// addresses are of another domain; "?" before an address takes it whatever
// else is said. Case counts nowhere.
type List struct {
	plain    map[string]int // line of each entry, extended ones with their sign
	patterns []pattern
	first    [256]bool // octets that entries begin with
	last     [256]bool // and end with: signs that no entry has aren't searched
}

type pattern struct {
	line int
	text string
	not  bool
}

// ParseList reads a badmailfrom, badrcptto or badhelo file. Every text is a
// list; the error is its size or a NUL.
func ParseList(text string) (*List, error) {
	lines, err := controlLines(text)
	if err != nil {
		return nil, err
	}
	l := &List{plain: make(map[string]int, len(lines))}
	for _, c := range lines {
		entry := strings.ToLower(c.text)
		rest, not := strings.CutPrefix(entry, "!")
		switch {
		case not:
			l.patterns = append(l.patterns, pattern{c.number, rest, true})
		case strings.ContainsAny(strings.TrimPrefix(entry, "?"), wild):
			l.patterns = append(l.patterns, pattern{c.number, entry, false})
			l.add(entry, c.number) // "[192.0.2.1]" is itself, too
		default:
			l.add(entry, c.number)
		}
	}
	return l, nil
}

func (l *List) add(entry string, line int) {
	if _, ok := l.plain[entry]; !ok {
		l.plain[entry] = line
		l.first[entry[0]], l.last[entry[len(entry)-1]] = true, true
	}
}

// Peer is what a list may ask about a client.
type Peer struct {
	Name  string // its reverse name; empty if it has none
	Relay bool   // it may relay
}

// Match is what a list says of an address.
type Match struct {
	Bad     bool
	Allowed bool // an entry with "?" lets it pass other checks of the sender, too
	Line    int  // that decided; 0 if none
}

// Address looks up a sender or recipient; "" is the null path.
func (l *List) Address(address string, p Peer) Match {
	if l == nil {
		return Match{}
	}
	address = strings.ToLower(address)
	_, domain := splitMailbox(address)
	if line := l.either("?", address, domain, ""); line > 0 {
		return Match{Allowed: true, Line: line}
	}
	if line := l.extended(address, domain, strings.ToLower(p.Name), p.Relay); line > 0 {
		return Match{Bad: true, Line: line}
	}
	if line := l.either("", address, domain, ""); line > 0 {
		return Match{Bad: true, Line: line}
	}
	return l.wild(address)
}

// either finds an address or its domain between signs.
func (l *List) either(before, address, domain, behind string) int {
	if before != "" && !l.first[before[0]] || behind != "" && !l.last[behind[0]] {
		return 0
	}
	if line := l.plain[before+address+behind]; line > 0 && address != "" {
		return line
	}
	if domain == "" {
		return 0
	}
	return l.plain[before+"@"+domain+behind]
}

func (l *List) extended(address, domain, name string, relay bool) int {
	if domain == "" {
		return 0
	}
	if !relay {
		if line := l.either("", address, domain, "+"); line > 0 {
			return line
		}
	}
	if name == "" {
		return l.either("", address, domain, "-")
	}
	if within(name, domain) {
		return 0
	}
	if line := l.either("", address, domain, "="); line > 0 {
		return line
	}
	for rest, more := name, l.first['~']; more; _, rest, more = strings.Cut(rest, ".") {
		if line := l.plain["~"+rest]; line > 0 {
			return line
		}
	}
	return 0
}

func (l *List) wild(text string) (m Match) {
	for _, p := range l.patterns {
		if p.not == m.Bad && wildmat(p.text, text) {
			m = Match{Bad: !p.not, Line: p.line}
		}
	}
	return m
}

// HELO looks up a greeting. Allowed is set by an entry "name!": no further
// check is asked for.
func (l *List) HELO(name string) Match {
	if l == nil {
		return Match{}
	}
	name = strings.ToLower(name)
	if line := l.either("", name, "", "!"); line > 0 {
		return Match{Allowed: true, Line: line}
	}
	if line := l.plain[name]; line > 0 {
		return Match{Bad: true, Line: line}
	}
	return l.wild(name)
}
