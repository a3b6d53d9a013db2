package httpd

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/emersion/go-smtp"

	"qstream/mail"
)

// maxFields bounds the header of a message whose recipients are taken from it,
// in octets.
const maxFields = 256 << 10

// raw takes a message as it is. Its envelope is in the query; without
// recipients there, it is in the message's header.
func (x *exchange) raw() (answer, error) {
	if x.r.ContentLength > x.h.cfg.MaxSize {
		return answer{}, refuse(http.StatusRequestEntityTooLarge, "message exceeds %d octets", x.h.cfg.MaxSize)
	}
	query, err := url.ParseQuery(x.r.URL.RawQuery)
	if err != nil {
		return answer{}, refuse(http.StatusBadRequest, "malformed query")
	}
	m, err := envelope(query)
	if err != nil {
		return answer{}, err
	}
	sum := sha256.New()
	fmt.Fprintf(sum, "message/rfc822\n%s\n", query.Encode()) // in the order of names
	body := io.TeeReader(streamed{x}, sum)
	if a, done := x.once.replay(); done {
		return x.again(a, io.LimitReader(body, x.h.cfg.MaxSize+1), sum)
	}
	m.content = body
	if len(m.to) == 0 {
		if err := m.fromHeader(body, query.Has("from")); err != nil {
			return answer{}, err
		}
	}
	if err := x.bounded(m); err != nil {
		return answer{}, err
	}
	return x.one(m, func() []byte { return sum.Sum(nil) })
}

// again is the answer to a request that was answered before.
func (x *exchange) again(a answer, body io.Reader, sum hash.Hash) (answer, error) {
	if _, err := io.Copy(io.Discard, body); err != nil {
		return answer{}, err
	}
	if !x.once.former.Same(sum.Sum(nil)) {
		return answer{}, misused()
	}
	return a, nil
}

// bounded refuses more recipients than a request may have.
func (x *exchange) bounded(all ...submission) error {
	n := 0
	for _, m := range all {
		n += len(m.to)
	}
	if n > x.h.cfg.MaxRecipients {
		return refuse(http.StatusUnprocessableEntity, "more than %d recipients", x.h.cfg.MaxRecipients)
	}
	return nil
}

// envelope reads the parameters of a query.
func envelope(query url.Values) (submission, error) {
	var m submission
	var notify []smtp.DSNNotify
	for name, values := range query {
		if name != "to" && len(values) != 1 {
			return m, refuse(http.StatusBadRequest, "parameter %s is there more than once", name)
		}
		var err error
		switch name {
		case "from":
			m.from = values[0]
		case "to":
			for _, a := range values {
				m.to = append(m.to, recipient{Address: a})
			}
		case "env_id":
			m.envID, err = envID(values[0])
		case "ret":
			m.ret, err = parseRet(values[0])
		case "notify":
			notify, err = parseNotify(strings.Split(values[0], ","))
		default:
			return m, refuse(http.StatusBadRequest, "unknown parameter %s", name)
		}
		if err != nil {
			return m, err
		}
	}
	for i := range m.to {
		m.to[i].Notify = notify
	}
	if len(m.to) == 0 && notify != nil {
		return m, refuse(http.StatusBadRequest, "notify is for recipients that are named by to")
	}
	return m, nil
}

func envID(text string) (string, error) {
	if len(text) > 100 || strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) >= 0 { // RFC 3461 4.4
		return "", refuse(http.StatusBadRequest, "env_id has to be printable ASCII of at most 100 octets")
	}
	return text, nil
}

func parseRet(text string) (smtp.DSNReturn, error) {
	switch r := smtp.DSNReturn(strings.ToUpper(text)); r {
	case "", smtp.DSNReturnFull, smtp.DSNReturnHeaders:
		return r, nil
	}
	return "", refuse(http.StatusBadRequest, "ret is neither full nor hdrs")
}

// parseNotify reads keywords of RFC 3461 4.1; never stands alone.
func parseNotify(words []string) (all []smtp.DSNNotify, err error) {
	for _, word := range words {
		n := smtp.DSNNotify(strings.ToUpper(strings.TrimSpace(word)))
		switch n {
		case smtp.DSNNotifyNever, smtp.DSNNotifySuccess, smtp.DSNNotifyFailure, smtp.DSNNotifyDelayed:
			all = append(all, n)
		default:
			return nil, refuse(http.StatusBadRequest, "notify wants never, or success, failure and delay")
		}
		if n == smtp.DSNNotifyNever && len(words) > 1 {
			return nil, refuse(http.StatusBadRequest, "notify: never stands alone")
		}
	}
	return all, nil
}

// fromHeader takes the recipients from the header, as sendmail -t does, and
// the reverse-path if there is none. Bcc and Return-Path don't go on.
func (m *submission) fromHeader(body io.Reader, hasFrom bool) error {
	lines := bufio.NewReaderSize(body, 4<<10)
	fields, rest, err := mail.ReadFields(func() ([]byte, error) { return wholeLine(lines) }, maxFields)
	var all []string
	switch {
	case errors.Is(err, mail.ErrHeaderTooLong):
		return refuse(http.StatusRequestEntityTooLarge, "a header of more than %d octets: name the recipients by to", maxFields)
	case err != nil:
		return err
	}
	for _, list := range fields.Recipients() {
		found, err := mail.ParseList(list, "")
		if err != nil {
			return refuse(http.StatusUnprocessableEntity, "recipient: %v", err)
		}
		all = append(all, found...)
	}
	m.addressTo(all)
	if len(m.to) == 0 {
		return refuse(http.StatusUnprocessableEntity, "no recipients, by to or in the header")
	}
	if !hasFrom {
		if m.from, err = author(fields); err != nil {
			return err
		}
	}
	head := fields.Sent() + "\n"
	m.content = io.MultiReader(strings.NewReader(head), bytes.NewReader(bytes.Clone(rest)), lines)
	return nil
}

// author is the reverse-path that a header suggests: who sent it, or wrote it
// (RFC 5322 3.6.2).
func author(fields mail.Fields) (string, error) {
	for _, name := range []string{"sender", "from"} {
		if values := fields.Values(name); len(values) > 0 {
			found, err := mail.ParseList(values[0], "")
			if err != nil || len(found) == 0 {
				return "", refuse(http.StatusUnprocessableEntity, "no address in %s: name the reverse-path by from", name)
			}
			return found[0], nil
		}
	}
	return "", refuse(http.StatusUnprocessableEntity, "no sender, by from or in the header")
}

// wholeLine reads a line with its end, of what ReadFields takes at most.
func wholeLine(r *bufio.Reader) ([]byte, error) {
	var whole []byte
	for {
		part, err := r.ReadSlice('\n')
		whole = append(whole, part...)
		if !errors.Is(err, bufio.ErrBufferFull) || len(whole) > maxFields {
			if errors.Is(err, bufio.ErrBufferFull) {
				err = nil
			}
			return whole, err
		}
	}
}
