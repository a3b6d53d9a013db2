package milter

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"

	"qstream/engine"
	"qstream/mail"
)

var (
	replyCode    = regexp.MustCompile(`^([45])[0-9][0-9](?:[ -]|$)`)
	enhancedCode = regexp.MustCompile(`^([45])\.[0-9]{1,3}\.[0-9]{1,3}(?: |$)`)
)

// status reads a reply of a filter: "550 5.7.1 text", lines after the first
// "550-5.7.1 text" or alike. Only refusals are replies.
func status(data []byte) (mail.Status, bool) {
	said := string(bytes.TrimRight(data, "\x00"))
	said = strings.ReplaceAll(said, "%%", "%") // as smfi_setreply escapes it
	first, _, _ := strings.Cut(said, "\n")
	if !replyCode.MatchString(first) {
		return mail.Status{}, false
	}
	var st mail.Status
	var lines []string
	for _, line := range strings.Split(said, "\n") {
		line = strings.TrimRight(line, "\r")
		if !replyCode.MatchString(line) || line[:3] != first[:3] {
			return mail.Status{}, false
		}
		line = line[min(4, len(line)):]
		if m := enhancedCode.FindString(line); m != "" && m[0] == first[0] {
			if st.Enhanced == "" {
				st.Enhanced = strings.TrimSpace(m)
			}
			line = line[len(m):]
		}
		lines = append(lines, engine.Text(line))
	}
	st.Code, _ = strconv.Atoi(first[:3]) // three digits
	st.Text = strings.Join(lines[:min(len(lines), 8)], "\n")
	return st, true
}
