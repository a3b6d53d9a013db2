package verify

import (
	"bytes"
	"net/mail"
	"strings"

	"golang.org/x/net/publicsuffix"

	own "qstream/mail"
)

// Bounds of what a header may make us ask.
const maxAuthors = 3

// fields are what verification needs of a header.
type fields struct {
	signatures []map[string]string // the tags of each DKIM-Signature, in order
	authors    []string            // the domains of From, each once
	badFrom    string              // why the author can't be told
	forged     int
}

// readFields reads a header with its lines ended by CRLF. id is our
// authserv-id.
func readFields(header []byte, id string) fields {
	var f fields
	froms := 0
	eachField(header, func(name, value string) {
		switch strings.ToLower(name) {
		case "dkim-signature":
			f.signatures = append(f.signatures, tags(value))
		case "from":
			froms++
			f.from(value)
		case "authentication-results":
			if id != "" && strings.EqualFold(servID(value), id) {
				f.forged++
			}
		}
	})
	if froms == 0 {
		f.badFrom = "no From field"
	}
	return f
}

// eachField calls yield for each field, its value unfolded to one line.
func eachField(header []byte, yield func(name, value string)) {
	var field []byte
	flush := func() {
		name, value, ok := bytes.Cut(field, []byte{':'})
		if ok {
			yield(string(bytes.TrimRight(name, " \t")), string(value))
		}
		field = field[:0]
	}
	for line := range bytes.SplitSeq(header, []byte("\r\n")) {
		if len(line) > 0 && (line[0] == ' ' || line[0] == '\t') {
			field = append(field, line...)
			continue
		}
		flush()
		field = append(field, line...)
	}
	flush()
}

// from notes the domains of a From field (RFC 7489 6.6.1).
func (f *fields) from(value string) {
	list, err := (&mail.AddressParser{}).ParseList(strings.ToValidUTF8(value, "?"))
	if err != nil {
		f.badFrom = "From cannot be understood"
		return
	}
	for _, a := range list {
		domain := own.NormalDomain(a.Address[strings.LastIndexByte(a.Address, '@')+1:])
		switch {
		case !fullName(domain):
			f.badFrom = "From has no domain"
		case contains(f.authors, domain):
		case len(f.authors) == maxAuthors:
			f.badFrom = "too many authors"
		default:
			f.authors = append(f.authors, domain)
		}
	}
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// policies are the names where authors' policies may be published: the
// domain's own, then its organization's.
func (f fields) policies() []string {
	var names []string
	for _, a := range f.authors {
		for _, d := range []string{a, organization(a)} {
			if name := "_dmarc." + d; !contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// organization is the domain that was registered (RFC 7489 3.2), or the domain
// itself if it is a public suffix.
func organization(domain string) string {
	if d, err := publicsuffix.EffectiveTLDPlusOne(domain); err == nil {
		return d
	}
	return domain
}

// tags reads a tag list (RFC 6376 3.2) for show: what is wrong in it the
// library says.
func tags(value string) map[string]string {
	m := map[string]string{}
	for part := range strings.SplitSeq(value, ";") {
		name, v, ok := strings.Cut(part, "=")
		name = strings.TrimSpace(name)
		if _, there := m[name]; ok && !there && len(m) < 32 {
			m[name] = strings.Join(strings.Fields(v), "")
		}
	}
	return m
}

// servID is the authserv-id at the start of an Authentication-Results field
// (RFC 8601 2.2): after comments, a token or a quoted string.
func servID(value string) string {
	value = skipComments(value)
	if quoted, ok := strings.CutPrefix(value, `"`); ok {
		var b strings.Builder
		for i := 0; i < len(quoted) && quoted[i] != '"'; i++ {
			if quoted[i] == '\\' && i+1 < len(quoted) {
				i++
			}
			b.WriteByte(quoted[i])
		}
		return strings.TrimSuffix(b.String(), ".")
	}
	end := strings.IndexAny(value, " \t;(\r\n")
	if end < 0 {
		end = len(value)
	}
	return strings.TrimSuffix(value[:end], ".")
}

// skipComments skips blanks and nested comments (RFC 5322 3.2.2).
func skipComments(s string) string {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '(':
			depth++
		case c == ')' && depth > 0:
			depth--
		case c == '\\' && depth > 0:
			i++
		case depth > 0, c == ' ', c == '\t', c == '\r', c == '\n':
		default:
			return s[i:]
		}
	}
	return ""
}
