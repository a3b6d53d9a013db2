package icap

import (
	"strconv"
	"strings"

	"qstream/engine"
)

// verdict reads the final answer. whole says that all of the message was sent.
func (s *session) verdict(r response, whole bool) (engine.Verdict, error) {
	v := engine.Verdict{Signatures: tag(r)}
	name := threat(r)
	switch {
	case (r.code == 200 || r.code == 204) && name != "":
		v.Outcome, v.Name = engine.Malware, name
	case r.code == 204 && whole:
		v.Outcome = engine.Clean
	case r.code == 204:
		v.Outcome, v.Reason, v.Detail = engine.Unscannable, engine.NotSupported, "the server doesn't want more than the preview"
	case r.code == 413:
		v.Outcome, v.Reason, v.Detail = engine.Unscannable, engine.TooLarge, "the server answers 413"
	case r.code == 200:
		return v, s.exchanged(&v)
	default:
		return v, engine.Fail(engine.Trouble, "the server answers %d", r.code)
	}
	return v, nil
}

// exchanged looks at the HTTP answer that came instead of 204: an error page
// refuses the message, anything else would be a changed one.
func (s *session) exchanged(v *engine.Verdict) error {
	line, err := s.in.ReadLine()
	if err != nil {
		return failed(err)
	}
	version, rest, _ := strings.Cut(line, " ")
	code, err := strconv.Atoi(rest[:min(3, len(rest))])
	if !strings.HasPrefix(version, "HTTP/1.") || err != nil || code < 400 {
		return engine.Fail(engine.Broken, "the server answers with a message instead of 204: %q", engine.Text(line))
	}
	v.Outcome, v.Advice, v.Detail = engine.Refused, engine.Refuse, engine.Text(line)
	return nil
}

// tag is the ISTag without its quotes (RFC 3507 4.7).
func tag(r response) string { return engine.Text(strings.Trim(r.header.Get("ISTag"), `" `)) }

// threat is the name of what was found: X-Infection-Found
// (draft-stecher-icap-subid 3.3), X-Violations-Found (3.4), or X-Virus-ID.
func threat(r response) string {
	if found := r.header.Get("X-Infection-Found"); found != "" {
		for field := range strings.SplitSeq(found, ";") {
			if name, ok := strings.CutPrefix(strings.TrimSpace(field), "Threat="); ok && engine.Text(name) != "" {
				return engine.Text(name)
			}
		}
		return "unnamed"
	}
	if id := r.header.Get("X-Virus-ID"); id != "" && !strings.EqualFold(id, "no threats") {
		return engine.Text(id)
	}
	if r.header.Get("X-Violations-Found") != "" {
		return "violations"
	}
	return ""
}
