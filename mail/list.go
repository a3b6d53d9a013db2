package mail

import (
	"fmt"
	"strings"
)

// ParseList finds the addresses of a header field's list or of an argument (RFC
// 5322 3.4): comments, display names, groups and old routes fall away. host is
// put behind what has no domain; without one that is an error.
func ParseList(list, host string) ([]string, error) {
	var all []string
	for _, one := range splitList(list) {
		if one == "" {
			continue
		}
		if !strings.Contains(unquoted(one), "@") {
			if host == "" {
				return nil, fmt.Errorf("%s has no domain", Printable(one))
			}
			one += "@" + host
		}
		a, err := ParseAddress(one, true)
		if err != nil {
			return nil, fmt.Errorf("%s is no address: %w", Printable(one), err)
		}
		all = append(all, a.String())
	}
	return all, nil
}

// unquoted is an address without its quoted part.
func unquoted(s string) string {
	if end := strings.LastIndexByte(s, '"'); end >= 0 {
		return s[end+1:]
	}
	return s
}

// splitList takes a list apart at its commas. A place in angle brackets stands for
// the whole; a group's name is left out.
func splitList(list string) (parts []string) {
	s := &listSplitter{}
	for i := 0; i < len(list); i++ {
		c := list[i]
		switch {
		case s.quoted && c == '\\' && i+1 < len(list):
			s.put(c)
			i++
			s.put(list[i])
		case c == '"' && s.comment == 0:
			s.quoted = !s.quoted
			s.put(c)
		case s.quoted:
			s.put(c)
		case s.comment > 0 && c == '\\':
			i++
		case c == '(':
			s.comment++
		case c == ')' && s.comment > 0:
			s.comment--
		case s.comment > 0:
		case c == '<' && !s.angle:
			s.angle, s.plain = true, s.plain[:0]
		case c == '>' && s.angle:
			parts = append(parts, withoutRoute(string(s.plain)))
			s.done = true
			s.angle = false
		case (c == ',' || c == ';') && !s.angle:
			parts = s.end(parts)
		case c == ':' && !s.angle:
			if !strings.HasPrefix(string(s.plain), "[") && !strings.Contains(string(s.plain), "@[") {
				s.plain = s.plain[:0] // a group's name
				continue
			}
			s.put(c)
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
		default:
			s.put(c)
		}
	}
	return s.end(parts)
}

type listSplitter struct {
	plain         []byte
	quoted, angle bool
	done          bool // by a place in angle brackets
	comment       int  // depth
}

func (s *listSplitter) put(c byte) { s.plain = append(s.plain, c) }

func (s *listSplitter) end(parts []string) []string {
	if !s.done && len(s.plain) > 0 {
		parts = append(parts, string(s.plain))
	}
	*s = listSplitter{}
	return parts
}

// withoutRoute drops an old source route (RFC 5321 appendix C).
func withoutRoute(s string) string {
	if strings.HasPrefix(s, "@") {
		if _, rest, ok := strings.Cut(s, ":"); ok {
			return rest
		}
	}
	return s
}
