package smtp

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
	"qstream/transport"
)

// The statuses that an envelope can get before anything is sent.
var (
	errSender    = mail.Status{Code: 553, Enhanced: "5.1.7", Text: "the reverse-path can't be written in SMTP"}
	errRecipient = mail.Status{Code: 553, Enhanced: "5.1.3", Text: "the address can't be written in SMTP"}
	errHELO      = mail.Status{Code: 451, Enhanced: "4.3.5", Text: "no usable name to present ourselves with"}
	errUTF8      = mail.Status{Code: 553, Enhanced: "5.6.7", Text: "the address needs SMTPUTF8, which the host lacks"}
	errUTF8From  = mail.Status{Code: 550, Enhanced: "5.6.7", Text: "the reverse-path needs SMTPUTF8, which the host lacks"}
)

// checkEnvelope settles what no host could take; false: nothing is left.
func (d *delivery) checkEnvelope() bool {
	if !plainWord(d.a.HELO) {
		d.settleAll(d.open, transport.Outcome{Status: errHELO, Kind: transport.Failed, At: transport.AtHello})
		return false
	}
	if !writable(d.a.ReversePath) {
		d.settleAll(d.open, transport.Outcome{Status: errSender, Kind: transport.Decided, At: transport.AtMail})
		return false
	}
	for i, r := range d.a.Recipients {
		if r.GetAddress() == "" || !writable(r.GetAddress()) {
			d.decide(i, transport.AtRcpt, errRecipient)
		}
	}
	return len(d.open) > 0
}

// compose makes the command lines; false: nobody is left to send to.
func (t *transaction) compose() bool {
	a, d := t.d.a, t.d
	if limit, size := t.s.sizeLimit(), a.Size+int64(len(a.Prepend)); limit > 0 && size > limit {
		d.settleAll(d.open, transport.Outcome{Kind: transport.Decided, At: transport.AtMail, Status: mail.Status{
			Code: 552, Enhanced: "5.3.4",
			Text: fmt.Sprintf("message of %d bytes is larger than the %d that %s takes", size, limit, t.s.host.name),
		}})
		return false
	}
	utf8 := t.s.offers("SMTPUTF8")
	from, ok := path(a.ReversePath, utf8)
	if !ok {
		d.settleAll(d.open, transport.Outcome{Status: errUTF8From, Kind: transport.Decided, At: transport.AtMail})
		return false
	}
	needed := a.SMTPUTF8 || !ascii(from)
	var paths []string
	for _, i := range slices.Clone(d.open) {
		to, ok := path(a.Recipients[i].GetAddress(), utf8)
		if !ok {
			d.decide(i, transport.AtRcpt, errUTF8)
			continue
		}
		needed = needed || !ascii(to)
		t.to = append(t.to, i)
		paths = append(paths, to)
	}
	utf8 = utf8 && needed
	t.mail = "MAIL FROM:<" + from + ">" + t.mailParams(utf8)
	for n, i := range t.to {
		t.rcpt = append(t.rcpt, "RCPT TO:<"+paths[n]+">"+t.rcptParams(a.Recipients[i], utf8))
	}
	return len(t.to) > 0
}

func (t *transaction) mailParams(utf8 bool) string {
	var b strings.Builder
	a := t.d.a
	if t.s.offers("SIZE") {
		b.WriteString(" SIZE=" + strconv.FormatInt(a.Size+int64(len(a.Prepend)), 10))
	}
	if t.s.offers("8BITMIME") && (a.Body == pb.Body_BODY_8BITMIME || a.Body == pb.Body_BODY_BINARYMIME) {
		b.WriteString(" BODY=8BITMIME")
	}
	if utf8 {
		b.WriteString(" SMTPUTF8")
	}
	if !t.s.offers("DSN") {
		return b.String()
	}
	switch a.Ret {
	case pb.Ret_RET_FULL:
		b.WriteString(" RET=FULL")
	case pb.Ret_RET_HDRS:
		b.WriteString(" RET=HDRS")
	}
	if a.EnvID != "" && ascii(a.EnvID) {
		b.WriteString(" ENVID=" + mail.EncodeXtext(a.EnvID))
	}
	return b.String()
}

var notifyWords = map[pb.Notify]string{
	pb.Notify_NOTIFY_NEVER: "NEVER", pb.Notify_NOTIFY_SUCCESS: "SUCCESS",
	pb.Notify_NOTIFY_FAILURE: "FAILURE", pb.Notify_NOTIFY_DELAY: "DELAY",
}

// rcptParams are NOTIFY and ORCPT (RFC 3461 4.1, 4.2); utf8 says whether the
// transaction uses SMTPUTF8 (RFC 6533 3).
func (t *transaction) rcptParams(r *pb.Recipient, utf8 bool) string {
	if !t.s.offers("DSN") {
		return ""
	}
	var b strings.Builder
	var words []string
	for _, n := range r.GetNotify() {
		if w := notifyWords[n]; w != "" {
			words = append(words, w)
		}
	}
	if len(words) > 0 {
		b.WriteString(" NOTIFY=" + strings.Join(words, ","))
	}
	if r.GetOrcpt() == "" {
		return b.String()
	}
	if orcpt := mail.EncodeORCPT(r.GetOrcpt(), utf8); plainWord(orcpt) && (utf8 || ascii(orcpt)) {
		b.WriteString(" ORCPT=" + orcpt)
	}
	return b.String()
}

// path is an address as the peer may be told it: without SMTPUTF8 a domain in
// another script is written as A-labels (RFC 5891), and a local part can't be.
func path(addr string, utf8 bool) (string, bool) {
	if utf8 || ascii(addr) {
		return addr, true
	}
	parsed, err := mail.ParseAddress(addr, true)
	if err != nil {
		return "", false
	}
	parsed, ok := parsed.ASCII()
	return parsed.String(), ok
}

// writable reports whether an address can stand between angle brackets
// without breaking out of them: no control characters, and blanks or brackets
// only inside a quoted local part (RFC 5321 4.1.2).
func writable(addr string) bool {
	quoted, escaped := false, false
	for i := 0; i < len(addr); i++ {
		c := addr[i]
		switch {
		case c < 0x20 || c == 0x7f:
			return false
		case escaped:
			escaped = false
		case quoted && c == '\\':
			escaped = true
		case c == '"':
			quoted = !quoted
		case !quoted && (c == ' ' || c == '<' || c == '>'):
			return false
		}
	}
	return !quoted
}

// plainWord reports whether s may stand as one word of a command.
func plainWord(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f })
}

func ascii(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
