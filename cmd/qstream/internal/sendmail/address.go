package sendmail

import (
	"fmt"
	"strings"

	"qstream/mail"
)

// addresses finds those of a header field's list or of an argument (RFC 5322
// 3.4): comments, display names, groups and old routes fall away. host is put
// behind what has no domain.
func addresses(list, host string) ([]string, error) {
	var all []string
	for _, one := range split(list) {
		if one == "" {
			continue
		}
		if !strings.Contains(unquoted(one), "@") {
			one += "@" + host
		}
		a, err := mail.ParseAddress(one, true)
		if err != nil {
			return nil, fmt.Errorf("%s is no address: %w", mail.Printable(one), err)
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

// split takes a list apart at its commas. A place in angle brackets stands for
// the whole; a group's name is left out.
func split(list string) (parts []string) {
	s := &splitter{}
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
			parts = append(parts, route(string(s.plain)))
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

type splitter struct {
	plain         []byte
	quoted, angle bool
	done          bool // by a place in angle brackets
	comment       int  // depth
}

func (s *splitter) put(c byte) { s.plain = append(s.plain, c) }

func (s *splitter) end(parts []string) []string {
	if !s.done && len(s.plain) > 0 {
		parts = append(parts, string(s.plain))
	}
	*s = splitter{}
	return parts
}

// route drops an old source route (RFC 5321 appendix C).
func route(s string) string {
	if strings.HasPrefix(s, "@") {
		if _, rest, ok := strings.Cut(s, ":"); ok {
			return rest
		}
	}
	return s
}
