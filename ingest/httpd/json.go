package httpd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"
)

// jsonCost is how much memory an octet of JSON may take in all: as it is read,
// its strings, what base64 stands for, and the message that is made of it: a
// control character becomes three octets, in a buffer that doubles.
const jsonCost = 8

// maxValues bounds the values of a request: each takes up to a hundred octets
// of memory, however short it is.
const maxValues = 100_000

// jsonPatience is how long a request waits for memory.
const jsonPatience = 10 * time.Second

// jsonRequest is the body: a message, or several.
type jsonRequest struct {
	jsonMessage
	Messages *[]jsonMessage `json:"messages"`
}

// jsonMessage has its content in one of three ways.
type jsonMessage struct {
	Envelope  jsonEnvelope `json:"envelope"`
	Raw       *string      `json:"raw"`        // lines end in LF or CRLF
	RawBase64 []byte       `json:"raw_base64"` // the same, octet for octet
	Message   *description `json:"message"`
}

type jsonEnvelope struct {
	From  *string         `json:"from"` // empty: the null path; default: the author
	To    []jsonRecipient `json:"to"`   // default: the recipients that the header names
	EnvID string          `json:"env_id"`
	Ret   string          `json:"ret"`
}

// jsonRecipient is an address, or an object with what DSNs need of it.
type jsonRecipient struct {
	Address string   `json:"address"`
	Notify  []string `json:"notify"`
	ORCPT   string   `json:"orcpt"`
}

func (r *jsonRecipient) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] == '"' {
		return json.Unmarshal(text, &r.Address)
	}
	type plain jsonRecipient
	return strict(bytes.NewReader(text), (*plain)(r))
}

// strict decodes one value and nothing behind it; a key that nobody knows is
// an error, since its writer wanted something.
func strict(r io.Reader, v any) error {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	switch _, err := d.Token(); {
	case err == nil:
		return errors.New("there is something behind the value")
	case !isEOF(err):
		return err
	}
	return nil
}

// fromJSON takes messages in JSON.
func (x *exchange) fromJSON() (answer, error) {
	if x.r.URL.RawQuery != "" {
		return answer{}, refuse(http.StatusBadRequest, "the envelope of a message in JSON is in it, not in the query")
	}
	limit := x.h.cfg.MaxJSON
	tooMany := refuse(http.StatusRequestEntityTooLarge, "more than %d values in JSON", maxValues)
	tooBig := refuse(http.StatusRequestEntityTooLarge, "more than %d octets of JSON: post a large message as message/rfc822", limit)
	if x.r.ContentLength > limit {
		return answer{}, tooBig
	}
	size := limit
	if x.r.ContentLength >= 0 {
		size = x.r.ContentLength
	}
	release, err := x.memory(size * jsonCost)
	if err != nil {
		return answer{}, err
	}
	defer release()
	sum := sha256.New()
	sum.Write([]byte("application/json\n"))
	body := &counted{r: io.TeeReader(streamed{x}, sum), left: limit, values: maxValues}
	var req jsonRequest
	err = strict(body, &req)
	switch {
	case body.left < 0:
		return answer{}, tooBig
	case body.values < 0:
		return answer{}, tooMany
	case lost(err):
		return answer{}, err
	case err != nil:
		return answer{}, refuse(http.StatusBadRequest, "malformed JSON: %v", err)
	}
	fingerprint := sum.Sum(nil)
	if x.once != nil && !x.once.former.Same(fingerprint) {
		return answer{}, misused()
	}
	if a, done := x.once.replay(); done {
		return a, nil
	}
	return x.described(req, func() []byte { return fingerprint })
}

// described submits what a request describes.
func (x *exchange) described(req jsonRequest, fingerprint func() []byte) (answer, error) {
	if req.Messages == nil {
		m := req.submission()
		if m.fault != nil {
			return answer{}, m.fault
		}
		if err := x.bounded(m); err != nil {
			return answer{}, err
		}
		return x.one(m, fingerprint)
	}
	if !req.empty() {
		return answer{}, refuse(http.StatusBadRequest, "a request has messages, or is one")
	}
	n := len(*req.Messages)
	if n == 0 || n > x.h.cfg.MaxMessages {
		return answer{}, refuse(http.StatusUnprocessableEntity, "want 1 to %d messages", x.h.cfg.MaxMessages)
	}
	all := make([]submission, n)
	for i := range *req.Messages {
		all[i] = (*req.Messages)[i].submission()
	}
	if err := x.bounded(all...); err != nil {
		return answer{}, err
	}
	return x.several(all, fingerprint)
}

func (m *jsonMessage) empty() bool {
	return m.Raw == nil && m.RawBase64 == nil && m.Message == nil && m.Envelope.From == nil && m.Envelope.To == nil &&
		m.Envelope.EnvID == "" && m.Envelope.Ret == ""
}

// submission is the message as it is submitted, or why it can't be.
func (m *jsonMessage) submission() submission {
	s, err := m.made()
	if err != nil {
		var p *problem
		if !errors.As(err, &p) {
			p = refuse(http.StatusUnprocessableEntity, "%v", err)
		}
		return submission{fault: p}
	}
	return s
}

func (m *jsonMessage) made() (s submission, err error) {
	if s.envID, err = envID(m.Envelope.EnvID); err != nil {
		return s, err
	}
	if s.ret, err = parseRet(m.Envelope.Ret); err != nil {
		return s, err
	}
	for _, r := range m.Envelope.To {
		one := recipient{Address: r.Address}
		if one.Notify, err = parseNotify(r.Notify); err != nil {
			return s, err
		}
		if one.ORCPT, err = envID(r.ORCPT); err != nil {
			return s, refuse(http.StatusBadRequest, "orcpt has to be an address in ASCII")
		}
		s.to = append(s.to, one)
	}
	if m.Envelope.From != nil {
		s.from = *m.Envelope.From
	}
	ways := 0
	for _, there := range []bool{m.Raw != nil, m.RawBase64 != nil, m.Message != nil} {
		if there {
			ways++
		}
	}
	if ways != 1 {
		return s, errors.New("want one of raw, raw_base64 and message")
	}
	switch {
	case m.Message != nil:
		return s, m.Message.into(&s, m.Envelope.From != nil)
	case m.Raw != nil:
		s.content = strings.NewReader(*m.Raw)
	default:
		s.content = bytes.NewReader(m.RawBase64)
	}
	if len(s.to) == 0 {
		return s, s.fromHeader(s.content, m.Envelope.From != nil)
	}
	if m.Envelope.From == nil {
		return s, errors.New("the envelope has recipients and no from")
	}
	return s, nil
}

// memory waits for room for a request.
func (x *exchange) memory(n int64) (release func(), err error) {
	ctx, cancel := context.WithTimeout(x.who.ctx, jsonPatience)
	defer cancel()
	release, err = x.h.json.Take(ctx, x.scope(), n)
	if err != nil {
		return nil, refuse(http.StatusServiceUnavailable, "too many requests in JSON at once")
	}
	return release, nil
}

// counted reads JSON up to limits of octets and of values; below 0: it was
// more. A decoder reads a value whole before it makes anything of it.
type counted struct {
	r      io.Reader
	left   int64
	values int

	quoted, escaped bool // where it stands
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p[:min(int64(len(p)), c.left+1)])
	c.left -= int64(n)
	c.count(p[:n])
	if c.left < 0 || c.values < 0 {
		return 0, errors.New("above the limit")
	}
	return n, err
}

// count counts what values begin behind.
func (c *counted) count(p []byte) {
	for _, b := range p {
		switch {
		case c.escaped:
			c.escaped = false
		case c.quoted && b == '\\':
			c.escaped = true
		case b == '"':
			c.quoted = !c.quoted
		case !c.quoted && (b == ',' || b == '[' || b == '{'):
			c.values--
		}
	}
}
