package qmail

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Rules are connection rules in tcprules' language (ucspi-tcp, with IPv6 and
// CIDR as in its successors). They never change; reading them is safe for
// concurrent use.
type Rules struct {
	rules   []Rule
	keys    map[string]int       // rule of an address as the search writes it; the first in the text counts
	nets    map[netip.Prefix]int // the same of CIDR addresses
	bits    []int                // prefix lengths in use, longest first
	hosts   bool                 // some rule is for a whole host name
	suffix  bool                 // some rule is for the end of one, or for any
	byInfo  bool                 // some rule is for info and a host name
	infoIPs bool                 // some rule is for info and an address
}

// Rule is one line.
type Rule struct {
	Line    int    // of the text, from 1
	Pattern string // the address as written: "192.0.2.", "=.acme.example", "" for everybody
	Deny    bool
	Env     map[string]string // variables it sets; don't change
	Unset   []string          // variables that it removes (",!VAR")
}

// Client is who is looked up.
type Client struct {
	IP   netip.Addr
	Name string // host name that leads back to IP; empty: none. Case and a final dot don't count
	Info string // what the client's host says of the user (RFC 1413); empty: nothing
}

// maxAddresses bounds what ranges make of a text.
const maxAddresses = 1 << 20

// ParseRules reads the text that tcprules takes: a rule a line, "#" begins a
// comment only at the start of a line, there are no escapes, blanks count
// except at the end. What tcprules takes and what could never match (an
// address without its final dot, a line without a colon) is an error, as is
// what tcprules refuses. The error is a LineErrors.
func ParseRules(text string) (*Rules, error) {
	rs := &Rules{keys: map[string]int{}, nets: map[netip.Prefix]int{}}
	var errs LineErrors
	n := 0
	for line := range strings.Lines(text) {
		n++
		if strings.HasPrefix(line, "#") {
			continue
		}
		line = strings.TrimRight(line, " \t\n")
		if line == "" {
			continue
		}
		if err := rs.add(n, line); err != nil {
			if errs = append(errs, &LineError{n, err.Error()}); len(errs) == maxErrors {
				break
			}
		}
	}
	if len(errs) > 0 {
		return nil, errs
	}
	lengths := map[int]bool{}
	for p := range rs.nets {
		lengths[p.Bits()] = true
	}
	rs.bits = slices.SortedFunc(maps.Keys(lengths), func(a, b int) int { return b - a })
	return rs, nil
}

func (rs *Rules) add(n int, line string) error {
	if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		return errors.New("holds a control character")
	}
	address, instructions, ok := cutAddress(line)
	if !ok {
		return errors.New(`is no rule: "address:allow" or "address:deny", then variables`)
	}
	r := Rule{Line: n, Pattern: address}
	instructions, r.Deny = strings.CutPrefix(instructions, "deny")
	if !r.Deny {
		instructions = strings.TrimPrefix(instructions, "allow")
	}
	if err := r.variables(instructions); err != nil {
		return err
	}
	rs.rules = append(rs.rules, r)
	return rs.address(address, len(rs.rules)-1)
}

// cutAddress cuts at the first colon before an instruction: an IPv6 address
// holds others.
func cutAddress(line string) (address, instructions string, ok bool) {
	for i := range len(line) {
		if rest := line[i+1:]; line[i] == ':' && (strings.HasPrefix(rest, "allow") || strings.HasPrefix(rest, "deny")) {
			return line[:i], rest, true
		}
	}
	return "", "", false
}

// variables reads `,VAR="value"` with any character for the quote, and
// ",!VAR".
func (r *Rule) variables(s string) error {
	for s != "" {
		rest, ok := strings.CutPrefix(s, ",")
		if !ok {
			return fmt.Errorf("%q: a comma was expected", s)
		}
		if rest, ok := strings.CutPrefix(rest, "!"); ok {
			name, _, _ := strings.Cut(rest, ",")
			if !isVariable(name) {
				return fmt.Errorf("%q is no name of a variable", name)
			}
			s = rest[len(name):]
			r.unset(name)
			continue
		}
		name, quoted, ok := strings.Cut(rest, "=")
		switch {
		case !ok:
			return fmt.Errorf(`%q: VAR="value" was expected`, rest)
		case !isVariable(name):
			return fmt.Errorf("%q is no name of a variable", name)
		case quoted == "":
			return fmt.Errorf("%s has no value; an empty one is %s=\"\"", name, name)
		case quoted[0] >= 0x80:
			return fmt.Errorf("the value of %s stands between two characters of ASCII", name)
		}
		quote := quoted[:1]
		value, after, ok := strings.Cut(quoted[1:], quote)
		if !ok {
			return fmt.Errorf("the value of %s has no second %s", name, quote)
		}
		r.set(name, value)
		s = after
	}
	return nil
}

func (r *Rule) set(name, value string) {
	if r.Env == nil {
		r.Env = map[string]string{}
	}
	r.Env[name] = value
	r.Unset = slices.DeleteFunc(r.Unset, func(n string) bool { return n == name })
}

func (r *Rule) unset(name string) {
	delete(r.Env, name)
	if !slices.Contains(r.Unset, name) {
		r.Unset = append(r.Unset, name)
	}
}

// Over are the variables of a connection that had base before the rule: base
// is not changed.
func (r Rule) Over(base map[string]string) map[string]string {
	env := maps.Clone(base)
	if env == nil {
		env = map[string]string{}
	}
	for _, name := range r.Unset {
		delete(env, name)
	}
	maps.Copy(env, r.Env)
	return env
}

// ParseVariable reads NAME=value, as a line of an environment.
func ParseVariable(s string) (name, value string, err error) {
	name, value, ok := strings.Cut(s, "=")
	if !ok || !isVariable(name) {
		return "", "", fmt.Errorf("%q is not NAME=value", s)
	}
	return name, value, nil
}

func isVariable(name string) bool {
	for i, c := range []byte(name) {
		letter := c == '_' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

// address makes a rule found under its address.
func (rs *Rules) address(s string, rule int) error {
	info, rest := "", s
	if i := strings.Index(s, "@="); i > 0 {
		return rs.host(s[:i+1], s[i+2:], rule)
	}
	if strings.HasPrefix(s, "=") {
		return rs.host("", s[1:], rule)
	}
	if i := strings.LastIndexByte(s, '@'); i > 0 {
		info, rest = s[:i+1], s[i+1:]
	}
	if a, err := netip.ParseAddr(rest); err == nil && a.Zone() == "" {
		rs.infoIPs = rs.infoIPs || info != ""
		rs.key(info+a.Unmap().String(), rule)
		return nil
	}
	switch {
	case info != "":
		return fmt.Errorf("%q: an IP address or =host was expected behind info@", s)
	case s == "":
		rs.key("", rule)
		return nil
	case strings.Contains(s, "/"):
		return rs.network(s, rule)
	case strings.Contains(s, "-"):
		return rs.span(s, rule)
	case isPart(s):
		rs.key(s, rule)
		return nil
	case isPart(s + "."):
		return fmt.Errorf("%q can never match: a part of an address ends with a dot", s)
	}
	return fmt.Errorf("%q is no IP address, part of one, network, range or =host", s)
}

// host takes =host, =.dom, = and, with info, info@=host.
func (rs *Rules) host(info, name string, rule int) error {
	switch {
	case strings.ContainsAny(name, " \t@=:/"):
		return fmt.Errorf("%q is no host name", name)
	case info != "" && (name == "" || name[0] == '.'):
		return fmt.Errorf("%q can never match: behind info@= stands a whole host name", info+"="+name)
	case info != "":
		rs.byInfo = true
	case name == "" || name[0] == '.':
		rs.suffix = true
	default:
		rs.hosts = true
	}
	rs.key(info+"="+strings.ToLower(name), rule)
	return nil
}

// network takes CIDR. IPv4 may be cut short, as in 127.0/8; bits behind the
// prefix don't count.
func (rs *Rules) network(s string, rule int) error {
	address, length, _ := strings.Cut(s, "/")
	if !strings.Contains(address, ":") {
		address = strings.TrimSuffix(address, ".")
		for strings.Count(address, ".") < 3 {
			address += ".0"
		}
	}
	p, err := netip.ParsePrefix(address + "/" + length)
	if err != nil || p.Addr().Is4In6() {
		return fmt.Errorf("%q is no network", s)
	}
	p = p.Masked()
	if _, ok := rs.nets[p]; !ok {
		rs.nets[p] = rule
	}
	return nil
}

// span takes a range of one number, 1.2.3.37-53 or 1.2.3-5.
func (rs *Rules) span(s string, rule int) error {
	low, high, _ := strings.Cut(s, "-")
	left := strings.LastIndexByte(low, '.') + 1
	right := strings.IndexByte(high, '.')
	if right < 0 {
		right = len(high)
	}
	bottom, err := strconv.ParseUint(low[left:], 10, 32)
	top, err2 := strconv.ParseUint(high[:right], 10, 32)
	if err != nil || err2 != nil {
		return fmt.Errorf("%q is no range of addresses", s)
	}
	top = min(top, 255)
	if bottom > top {
		return fmt.Errorf("%q is an empty range", s)
	}
	for n := bottom; n <= top; n++ {
		key := low[:left] + strconv.FormatUint(n, 10) + high[right:]
		if !isPart(key) && !isIPv4(key) {
			return fmt.Errorf("%q can never match: it ends neither with a fourth number nor with a dot", s)
		}
		if len(rs.keys) >= maxAddresses {
			return fmt.Errorf("the ranges hold more than %d addresses; write networks", maxAddresses)
		}
		rs.key(key, rule)
	}
	return nil
}

func (rs *Rules) key(s string, rule int) {
	if _, ok := rs.keys[s]; !ok {
		rs.keys[s] = rule
	}
}

func isIPv4(s string) bool {
	a, err := netip.ParseAddr(s)
	return err == nil && a.Is4()
}

// isPart reports the start of an IPv4 address up to a dot.
func isPart(s string) bool {
	dots := strings.Count(s, ".")
	return strings.HasSuffix(s, ".") && dots <= 3 && isIPv4(s+strings.Repeat("0.", 3-dots)+"0")
}
