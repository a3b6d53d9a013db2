package smtpd

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-smtp"

	"qstream/mail"
)

// parseMail reads the argument of MAIL: FROM:<path> and parameters.
func parseMail(arg string) (path string, opts *smtp.MailOptions, e *smtp.SMTPError) {
	rest, e := cutKeyword(arg, "FROM:")
	if e != nil {
		return "", nil, e
	}
	a, after, err := mail.ParsePath(rest, true)
	if err != nil {
		return "", nil, pathError(rest, err, smtp.EnhancedCode{5, 1, 7})
	}
	opts = &smtp.MailOptions{}
	if e := parameters(after, func(key, value string) *smtp.SMTPError { return mailParameter(opts, key, value) }); e != nil {
		return "", nil, e
	}
	return a.String(), opts, nil
}

func mailParameter(o *smtp.MailOptions, key, value string) *smtp.SMTPError {
	switch key {
	case "SIZE":
		size, err := strconv.ParseInt(value, 10, 64)
		if err != nil || size < 0 {
			return badParameter(key)
		}
		o.Size = size
	case "BODY":
		o.Body = smtp.BodyType(strings.ToUpper(value))
		if o.Body != smtp.Body7Bit && o.Body != smtp.Body8BitMIME {
			return badParameter(key)
		}
	case "SMTPUTF8":
		if value != "" {
			return badParameter(key)
		}
		o.UTF8 = true
	case "RET":
		o.Return = smtp.DSNReturn(strings.ToUpper(value))
		if o.Return != smtp.DSNReturnFull && o.Return != smtp.DSNReturnHeaders {
			return badParameter(key)
		}
	case "ENVID":
		id, err := mail.DecodeXtext(value)
		if err != nil || id == "" || len(value) > 100 { // RFC 3461 4.4
			return badParameter(key)
		}
		o.EnvelopeID = id
	case "AUTH":
		by, err := mail.DecodeXtext(value)
		if err != nil || by == "" {
			return badParameter(key)
		}
		o.Auth = &by
	default:
		return unknownParameter(key)
	}
	return nil
}

// parseRcpt reads the argument of RCPT: TO:<path> and parameters.
func parseRcpt(arg string) (path string, opts *smtp.RcptOptions, e *smtp.SMTPError) {
	rest, e := cutKeyword(arg, "TO:")
	if e != nil {
		return "", nil, e
	}
	a, after, err := mail.ParsePath(rest, true)
	if err != nil || a.IsNull() {
		return "", nil, pathError(rest, err, smtp.EnhancedCode{5, 1, 3})
	}
	opts = &smtp.RcptOptions{}
	if e := parameters(after, func(key, value string) *smtp.SMTPError { return rcptParameter(opts, key, value) }); e != nil {
		return "", nil, e
	}
	return a.String(), opts, nil
}

func rcptParameter(o *smtp.RcptOptions, key, value string) *smtp.SMTPError {
	switch key {
	case "NOTIFY":
		if o.Notify = parseNotify(value); o.Notify == nil {
			return badParameter(key)
		}
	case "ORCPT":
		orcpt, err := mail.DecodeORCPT(value)
		if err != nil || len(value) > 500 { // RFC 3461 4.2
			return badParameter(key)
		}
		kind, address, _ := strings.Cut(orcpt, ";")
		o.OriginalRecipientType = smtp.DSNAddressType(strings.ToUpper(kind))
		o.OriginalRecipient = address
	default:
		return unknownParameter(key)
	}
	return nil
}

// parseNotify reads the value of NOTIFY (RFC 3461 4.1); nil if it is malformed.
func parseNotify(value string) []smtp.DSNNotify {
	var list []smtp.DSNNotify
	seen := map[smtp.DSNNotify]bool{}
	for word := range strings.SplitSeq(strings.ToUpper(value), ",") {
		n := smtp.DSNNotify(word)
		switch n {
		case smtp.DSNNotifyNever, smtp.DSNNotifyDelayed, smtp.DSNNotifyFailure, smtp.DSNNotifySuccess:
		default:
			return nil
		}
		if seen[n] {
			return nil
		}
		seen[n] = true
		list = append(list, n)
	}
	if seen[smtp.DSNNotifyNever] && len(list) > 1 {
		return nil
	}
	return list
}

func cutKeyword(arg, keyword string) (string, *smtp.SMTPError) {
	if len(arg) < len(keyword) || !strings.EqualFold(arg[:len(keyword)], keyword) {
		return "", &smtp.SMTPError{Code: 501, EnhancedCode: smtp.EnhancedCode{5, 5, 4}, Message: "expected " + keyword + "<path>"}
	}
	return strings.TrimLeft(arg[len(keyword):], " "), nil
}

// addressFault reports an error that lies in the address: a client with a bad
// list is told so each time, and not cut off.
func addressFault(e *smtp.SMTPError) bool { return e.EnhancedCode[1] != 5 }

// parameters calls each for every parameter; none may come twice.
func parameters(s string, each func(key, value string) *smtp.SMTPError) *smtp.SMTPError {
	seen := map[string]bool{}
	for word := range strings.FieldsSeq(s) {
		key, value, _ := strings.Cut(word, "=")
		key = strings.ToUpper(key)
		if seen[key] {
			return badParameter(key)
		}
		seen[key] = true
		if e := each(key, value); e != nil {
			return e
		}
	}
	return nil
}

func pathError(given string, err error, code smtp.EnhancedCode) *smtp.SMTPError {
	if !utf8.ValidString(given) || errors.Is(err, mail.ErrNotASCII) {
		return &smtp.SMTPError{Code: 501, EnhancedCode: smtp.EnhancedCode{5, 6, 7}, Message: "address is not UTF-8"}
	}
	return &smtp.SMTPError{Code: 501, EnhancedCode: code, Message: "malformed address"}
}

func badParameter(key string) *smtp.SMTPError {
	return &smtp.SMTPError{Code: 501, EnhancedCode: smtp.EnhancedCode{5, 5, 4}, Message: "malformed parameter " + key}
}

// unknownParameter is RFC 5321 4.1.1.11.
func unknownParameter(key string) *smtp.SMTPError {
	return &smtp.SMTPError{Code: 555, EnhancedCode: smtp.EnhancedCode{5, 5, 4}, Message: "unknown parameter " + key}
}
