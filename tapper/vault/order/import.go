package order

import (
	"errors"
	"fmt"
	"regexp/syntax"
	"slices"
	"strings"

	"qstream/mail"
	"qstream/qmail"
)

// Draft is what a line of qmail's control/taps would become: rules that a
// person has to look at, and has to ask for as an order.
type Draft struct {
	Line     int
	Source   string   // the line's kind and pattern
	To       string   // who got the copies there
	Who      []Rule   // empty if it can't be said by rules
	Warnings []string // what differs from what the line did
}

// FirstOnly is what holds of every file of that kind.
const FirstOnly = "there a message was copied by the first line that fit and by no other; here every order that covers it gets a copy of its own"

// Import makes a draft of each line. Patterns become anchored: what a line
// copied by accident is told, with an example, and is left out.
func Import(taps []qmail.Tap) []Draft {
	drafts := make([]Draft, len(taps))
	for i := range taps {
		drafts[i] = importTap(taps, i)
	}
	return drafts
}

func importTap(taps []qmail.Tap, i int) Draft {
	t := &taps[i]
	d := Draft{Line: t.Line, Source: source(t), To: t.To}
	warn := func(format string, args ...any) { d.Warnings = append(d.Warnings, fmt.Sprintf(format, args...)) }
	switch {
	case t.Broken != nil && t.Not:
		warn("its pattern %v; negated, it copied every message in silence; nothing is made of it", t.Broken)
		return d
	case t.Broken != nil:
		warn("its pattern %v; it copied nothing, in silence; nothing is made of it", t.Broken)
		return d
	case t.Not:
		warn("it copied all mail that the pattern does not fit; an order names whose mail it is about: write it by hand, by domains or by a tenant")
		return d
	}
	if t.Old {
		warn("it has no kind: it fit senders and recipients, as A does")
	}
	forms, err := formsOf(t.Pattern)
	if err != nil {
		warn("its pattern can't be said by addresses with * (%v): write it by hand", err)
		return d
	}
	for _, f := range forms {
		address, note, err := f.address()
		if err != nil {
			d.Who = nil
			warn("its pattern names no addresses that an order can name (%v): write it by hand", err)
			return d
		}
		if note != "" {
			warn("%s", note)
		}
		d.Who = append(d.Who, rulesFor(t.Kind, address)...)
		for _, w := range f.excess(t) {
			warn("%s", w)
		}
		if j := shadow(taps, i, f.sample()); j >= 0 {
			warn("line %d fit what it fits, such as %s: there this line got none of it", taps[j].Line, f.sample())
		}
	}
	slices.Sort(d.Warnings)
	d.Warnings = slices.Compact(d.Warnings)
	return d
}

func source(t *qmail.Tap) string {
	not, kind := "", string(t.Kind)+":"
	if t.Not {
		not = "!"
	}
	if t.Old {
		kind = ""
	}
	return mail.Printable(kind + not + t.Pattern)
}

func rulesFor(kind byte, address string) []Rule {
	var rules []Rule
	if kind != qmail.TapTo {
		rules = append(rules, Rule{Sender: address})
	}
	if kind != qmail.TapFrom {
		rules = append(rules, Rule{Recipient: address})
	}
	return rules
}

// shadow is an earlier line that fits an address too; -1 if there is none.
func shadow(taps []qmail.Tap, i int, sample string) int {
	for j := range i {
		if (taps[j].Kind == qmail.TapEither || taps[j].Kind == taps[i].Kind || taps[i].Kind == qmail.TapEither) && taps[j].Fits(sample) {
			return j
		}
	}
	return -1
}

// form is one of the texts that a pattern stands for, "*" for any octets.
type form struct {
	text       string
	start, end bool // anchored there
	dots       bool // a "." of it was any octet
}

// maxForms bounds what a pattern stands for.
const maxForms = 64

// formsOf takes a regular expression apart into what it stands for.
func formsOf(pattern string) ([]form, error) {
	tree, err := syntax.Parse(pattern, syntax.POSIX)
	if err != nil {
		return nil, err
	}
	return expand(tree)
}

func expand(re *syntax.Regexp) ([]form, error) {
	switch re.Op {
	case syntax.OpEmptyMatch:
		return []form{{}}, nil
	case syntax.OpLiteral:
		text := string(re.Rune)
		if strings.ContainsRune(text, '*') {
			return nil, errors.New("a star that means itself")
		}
		return []form{{text: text}}, nil
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return []form{{text: ".", dots: true}}, nil
	case syntax.OpBeginLine, syntax.OpBeginText:
		return []form{{start: true}}, nil
	case syntax.OpEndLine, syntax.OpEndText:
		return []form{{end: true}}, nil
	case syntax.OpCapture:
		return expand(re.Sub[0])
	case syntax.OpStar, syntax.OpPlus:
		if op := re.Sub[0].Op; op == syntax.OpAnyChar || op == syntax.OpAnyCharNotNL {
			return []form{{text: "*"}}, nil
		}
	case syntax.OpQuest:
		with, err := expand(re.Sub[0])
		return append([]form{{}}, with...), err
	case syntax.OpCharClass:
		return expandClass(re)
	case syntax.OpAlternate:
		var all []form
		for _, sub := range re.Sub {
			fs, err := expand(sub)
			if err != nil {
				return nil, err
			}
			if all = append(all, fs...); len(all) > maxForms {
				return nil, errors.New("it stands for too many")
			}
		}
		return all, nil
	case syntax.OpConcat:
		return expandConcat(re)
	}
	return nil, fmt.Errorf("%s in it", mail.Printable(re.String()))
}

func expandClass(re *syntax.Regexp) ([]form, error) {
	var all []form
	for i := 0; i+1 < len(re.Rune); i += 2 {
		for r := re.Rune[i]; r <= re.Rune[i+1]; r++ {
			if all = append(all, form{text: string(r)}); len(all) > maxForms || r == '*' {
				return nil, errors.New("it stands for too many")
			}
		}
	}
	return all, nil
}

func expandConcat(re *syntax.Regexp) ([]form, error) {
	all := []form{{}}
	for _, sub := range re.Sub {
		parts, err := expand(sub)
		if err != nil {
			return nil, err
		}
		var longer []form
		for _, a := range all {
			for _, p := range parts {
				if a.end || p.start && a.text != "" {
					return nil, errors.New("an anchor amid it")
				}
				longer = append(longer, form{text: a.text + p.text, start: a.start || p.start, end: p.end, dots: a.dots || p.dots})
			}
		}
		if all = longer; len(all) > maxForms {
			return nil, errors.New("it stands for too many")
		}
	}
	return all, nil
}

// address is the form as an address of a rule, and what was taken for granted.
func (f form) address() (address, note string, err error) {
	address = strings.TrimSpace(f.text)
	if !strings.Contains(address, "@") {
		name := strings.Trim(address, "*@")
		if strings.Contains(name, ".") {
			address, note = "*@"+strings.TrimPrefix(name, "."), "it names no local part and no @: taken for all of the domain, and not for what else holds that text"
		} else {
			address, note = name+"@*", "it names no domain: taken for that local part in any domain, and not for what else holds that text"
		}
	}
	local, domain, _ := strings.Cut(address, "@")
	if rest, ok := strings.CutPrefix(domain, "*"); ok && rest != "" && !strings.HasPrefix(rest, ".") {
		// ".*@.*dom.com": the domain and, by accident, others that end so.
		address = local + "@" + rest
		note = "a * before a domain's name is left out: it fit other domains that end so; name those below it by *." + rest
	}
	p, err := parsePattern(address)
	return p.String(), note, err
}

// sample is an address that the form stands for.
func (f form) sample() string {
	text := strings.ReplaceAll(f.text, "*", "x")
	if !strings.Contains(text, "@") {
		return "x@" + strings.TrimLeft(text, ".x")
	}
	return text
}

// excess are warnings of what the line fit beyond its form, each with an example
// that it does fit.
func (f form) excess(t *qmail.Tap) (warnings []string) {
	s := f.sample()
	if longer := s + ".evil.example"; !f.end && t.Fits(longer) {
		warnings = append(warnings, fmt.Sprintf("it is not anchored at its end: it fit %s as well; the order doesn't", longer))
	}
	if longer := "evil-" + s; !f.start && !strings.HasPrefix(f.text, "*") && t.Fits(longer) {
		warnings = append(warnings, fmt.Sprintf("it is not anchored at its beginning: it fit %s as well; the order doesn't", longer))
	}
	if f.dots {
		if other := strings.Replace(s, ".", "x", 1); t.Fits(other) {
			warnings = append(warnings, fmt.Sprintf("a dot without a backslash is any character: it fit %s as well; the order doesn't", other))
		}
	}
	return warnings
}

// YAML is the draft as a document that Parse refuses until a person has filled
// in what is missing; what differs is told in comments before it.
func (d Draft) YAML() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# line %d: %s\n", d.Line, d.Source)
	for _, w := range d.Warnings {
		fmt.Fprintf(&b, "# WARNING: %s\n", mail.Printable(w))
	}
	if len(d.Who) == 0 {
		return b.String()
	}
	sink := "smtp://" + mail.Domain(d.To) + " to=" + d.To
	text, err := Order{Who: d.Who, What: Full, Sink: mail.Printable(sink)}.YAML()
	if err != nil {
		fmt.Fprintf(&b, "# can't be written: %s\n", mail.Printable(err.Error()))
		return b.String()
	}
	b.WriteString("# fill in reference, from and until, and look at who and sink\n")
	b.WriteString(text)
	return b.String()
}
