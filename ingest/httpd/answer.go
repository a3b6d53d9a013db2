package httpd

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/emersion/go-smtp"

	"qstream/mail"
)

// reply is an answer in SMTP's terms.
type reply struct {
	Code     int    `json:"code"`
	Enhanced string `json:"enhanced,omitempty"`
	Text     string `json:"text"`
}

func (r reply) status() mail.Status {
	return mail.Status{Code: r.Code, Enhanced: r.Enhanced, Text: r.Text}
}

// fate is what became of a recipient at the edge.
type fate struct {
	Address string `json:"address"`
	reply
}

// result is what became of a message.
type result struct {
	ID         string `json:"id,omitempty"`
	Status     int    `json:"status"` // HTTP's
	Reply      reply  `json:"smtp"`
	Recipients []fate `json:"recipients,omitempty"`

	doubt bool // it may be stored nevertheless, now or later
}

// final reports a result that trying again can't change.
func (r result) final() bool { return r.Status == http.StatusAccepted || r.Reply.status().Permanent() }

// batch is the answer to several messages.
type batch struct {
	Messages []result `json:"messages"`
}

// problem tells why nothing was taken (RFC 9457).
type problem struct {
	Type       string `json:"type"`
	Title      string `json:"title"`
	Status     int    `json:"status"`
	Detail     string `json:"detail,omitempty"`
	SMTP       *reply `json:"smtp,omitempty"`
	Recipients []fate `json:"recipients,omitempty"`

	wait int // seconds of Retry-After; 0: the status's
}

func (p *problem) Error() string { return p.Detail }

func refuse(status int, format string, args ...any) *problem {
	return &problem{Status: status, Detail: mail.Printable(fmt.Sprintf(format, args...))}
}

// retryAfter are the seconds after which a client may try again.
var retryAfter = map[int]int{http.StatusServiceUnavailable: 30, http.StatusTooManyRequests: 60, http.StatusConflict: 1}

// httpStatus is HTTP's word for a refusal. What is temporary, or not
// understood, is 503, or 429 where the client may be too many; nothing that a
// client could take for the end of it.
func httpStatus(s mail.Status) int {
	switch {
	case s.OK():
		return http.StatusAccepted
	case !s.Permanent() && strings.HasPrefix(s.Enhanced, "4.7."):
		return http.StatusTooManyRequests
	case !s.Permanent():
		return http.StatusServiceUnavailable
	case s.Code == 530 || s.Code == 535:
		return http.StatusUnauthorized
	case s.Code == 552, s.Enhanced == "5.3.4":
		return http.StatusRequestEntityTooLarge
	case strings.HasPrefix(s.Enhanced, "5.7."):
		return http.StatusForbidden
	}
	return http.StatusUnprocessableEntity
}

// explain is a session's error for the client. What says nothing about itself
// is our own trouble, hence temporary.
func (h *Handler) explain(err error) reply {
	var e *smtp.SMTPError
	if !errors.As(err, &e) || e.Code < 400 || e.Code > 599 {
		h.deps.Log.Warn("session failed", "stage", "ingest", "err", err)
		return reply{451, "4.3.0", "local trouble, try again later"}
	}
	r := reply{Code: e.Code, Text: mail.Printable(e.Message)}
	if e.EnhancedCode[0] > 0 {
		r.Enhanced = fmt.Sprintf("%d.%d.%d", e.EnhancedCode[0], e.EnhancedCode[1], e.EnhancedCode[2])
	}
	return r
}

// answer is what goes back.
type answer struct {
	status   int
	body     []byte
	wait     int
	replayed bool
}

// answerTo is the answer about a single message.
func answerTo(r result) answer {
	if r.Status == http.StatusAccepted {
		return encode(r.Status, r)
	}
	said := r.Reply
	return problemAnswer(&problem{Status: r.Status, Detail: said.Text, SMTP: &said, Recipients: r.Recipients})
}

// answerAll is the answer about several: 202 if all are taken, else 207, where
// each has its own status.
func answerAll(all []result) answer {
	status := http.StatusAccepted
	for _, r := range all {
		if r.Status != http.StatusAccepted {
			status = http.StatusMultiStatus
		}
	}
	return encode(status, batch{all})
}

func problemAnswer(p *problem) answer {
	p.Type, p.Title = "about:blank", http.StatusText(p.Status)
	a := encode(p.Status, p)
	a.wait = p.wait
	return a
}

func encode(status int, v any) answer {
	body, err := json.Marshal(v)
	if err != nil { // of strings and numbers: it can't be
		body, status = []byte("{}"), http.StatusServiceUnavailable
	}
	return answer{status: status, body: append(body, '\n')}
}

// write sends an answer.
func (a answer) write(w http.ResponseWriter) error {
	head := w.Header()
	kind := "application/json"
	if a.status >= 400 {
		kind = "application/problem+json"
	}
	head.Set("Content-Type", kind)
	head.Set("Content-Length", strconv.Itoa(len(a.body)))
	head.Set("Cache-Control", "no-store")
	head.Set("X-Content-Type-Options", "nosniff")
	if a.wait == 0 {
		a.wait = retryAfter[a.status]
	}
	if a.wait > 0 {
		head.Set("Retry-After", strconv.Itoa(a.wait))
	}
	if a.replayed {
		head.Set("Idempotency-Replayed", "true")
	}
	switch a.status {
	case http.StatusUnauthorized:
		head.Set("WWW-Authenticate", `Basic realm="qstream", charset="UTF-8"`)
		head.Set("Connection", "close")
	case http.StatusMethodNotAllowed:
		head.Set("Allow", http.MethodPost)
	}
	w.WriteHeader(a.status)
	_, err := w.Write(a.body)
	return err
}
