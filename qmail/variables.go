package qmail

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Variables are what the environment of qmail-smtpd says about receiving, set
// by connection rules or policies. The zero value says nothing.
type Variables struct {
	HELO          HELOCheck
	SenderDNS     Switch // MFDNSCHECK: the sender's domain must take mail
	LocalSender   string // LOCALMFCHECK: "" not given, else a LocalSender constant or a domain
	MaxRecipients int    // MAXRECIPIENTS of a session; 0: no limit
	TarpitCount   int    // TARPITCOUNT; 0: no tarpit
	TarpitDelay   int    // TARPITDELAY, in seconds, or a special value
	DataBytes     int64  // DATABYTES; 0: no limit
	MIMEType      ContentCheck
	LoaderType    ContentCheck
	Loader        byte   // what loader types begin with; 0: whatever
	Recipients450 Switch // an unknown recipient is temporary
	DeliverTo     string // DELIVERTO: before the recipients in RCPTTO
	Replies       Replies
}

// Switch is a yes or no that may not be given.
type Switch int

// Values of a Switch.
const (
	Unset Switch = iota
	On
	Off
)

// HELOCheck is what is asked of a greeting.
type HELOCheck byte

// Checks of HELOCHECK. All but HELORequired look at badhelo.
const (
	HELOUnset    HELOCheck = 0
	HELOList     HELOCheck = 'l' // badhelo alone: HELOCHECK=""
	HELORequired HELOCheck = '!' // there must be one
	HELOBoth     HELOCheck = '.'
	HELOEqual    HELOCheck = '=' // the client's reverse name
	HELOAddress  HELOCheck = 'A' // it has an address in DNS
	HELOMail     HELOCheck = 'M' // it has a mail host in DNS
	HELOOff      HELOCheck = '-'
)

// Values of Variables.LocalSender beside a domain.
const (
	SenderDomainOurs = "+" // LOCALMFCHECK="": a domain that we receive for
	SenderByRules    = "!"
	SenderIsUser     = "="
	SenderInCert     = "?"
	SenderAny        = "-"
)

// Special values of TarpitDelay. Those between are seconds for each recipient
// above TarpitCount.
const (
	TarpitRefuse = 0   // refuse recipients once so many didn't exist
	TarpitEnd    = 999 // and refuse DATA, and end the session
)

// ContentCheck says whose content is searched.
type ContentCheck byte

// Values of BADMIMETYPE and BADLOADERTYPE.
const (
	ContentUnset     ContentCheck = 0
	ContentAll       ContentCheck = 'a'
	ContentStrangers ContentCheck = '+' // not that of clients that may relay
	ContentBlanks    ContentCheck = '!' // and no blanks within base64
	ContentOff       ContentCheck = '-'
)

// Replies are texts put behind those of refusals.
type Replies struct {
	HELO, Mailbox, MaxSize, BadMailFrom, BadRcptTo, SenderExist, NoGateway, SenderInvalid, Content, Greylisted string
}

// setters read a variable each.
var setters = map[string]func(*Variables, string) error{
	"HELOCHECK":           func(v *Variables, s string) error { v.HELO = heloCheck(s); return nil },
	"MFDNSCHECK":          func(v *Variables, s string) error { v.SenderDNS = present(s); return nil },
	"LOCALMFCHECK":        func(v *Variables, s string) error { v.LocalSender = localSender(s); return nil },
	"MAXRECIPIENTS":       func(v *Variables, s string) (err error) { v.MaxRecipients, err = number(s, 1e6); return err },
	"TARPITCOUNT":         func(v *Variables, s string) (err error) { v.TarpitCount, err = number(s, 1e6); return err },
	"TARPITDELAY":         func(v *Variables, s string) (err error) { v.TarpitDelay, err = number(s, TarpitEnd); return err },
	"DATABYTES":           setDataBytes,
	"BADMIMETYPE":         func(v *Variables, s string) error { v.MIMEType = contentCheck(s); return nil },
	"BADLOADERTYPE":       setLoader,
	"RECIPIENTS450":       func(v *Variables, s string) error { v.Recipients450 = present(s); return nil },
	"DELIVERTO":           func(v *Variables, s string) error { v.DeliverTo = s; return nil },
	"REPLY_HELO":          reply(func(r *Replies) *string { return &r.HELO }),
	"REPLY_MAILBOX":       reply(func(r *Replies) *string { return &r.Mailbox }),
	"REPLY_MAXSIZE":       reply(func(r *Replies) *string { return &r.MaxSize }),
	"REPLY_BADMAILFROM":   reply(func(r *Replies) *string { return &r.BadMailFrom }),
	"REPLY_BADRCPTTO":     reply(func(r *Replies) *string { return &r.BadRcptTo }),
	"REPLY_SENDEREXIST":   reply(func(r *Replies) *string { return &r.SenderExist }),
	"REPLY_NOGATEWAY":     reply(func(r *Replies) *string { return &r.NoGateway }),
	"REPLY_SENDERINVALID": reply(func(r *Replies) *string { return &r.SenderInvalid }),
	"REPLYMAV":            reply(func(r *Replies) *string { return &r.SenderInvalid }),
	"REPLY_CONTENT":       reply(func(r *Replies) *string { return &r.Content }),
	"REPLY_GREYLISTED":    reply(func(r *Replies) *string { return &r.Greylisted }),
}

// VariableNames are the variables that Set reads, in order.
func VariableNames() []string { return slices.Sorted(maps.Keys(setters)) }

// Set reads variables from an environment into v; what env doesn't name
// stays, and what it names that is not known here is somebody else's. The
// error tells all values that can't be read; they stay as they were.
func (v *Variables) Set(env map[string]string) error {
	var bad []string
	if len(env) == 0 {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		set := setters[name]
		if set == nil {
			continue
		}
		changed := *v
		if err := set(&changed, env[name]); err != nil {
			bad = append(bad, name+": "+err.Error())
			continue
		}
		*v = changed
	}
	if len(bad) > 0 {
		return fmt.Errorf("%s", strings.Join(bad, "; "))
	}
	return nil
}

// present reads a variable that counts by being there; "-" takes it back.
func present(s string) Switch {
	if s == "-" {
		return Off
	}
	return On
}

func heloCheck(s string) HELOCheck {
	if len(s) != 1 {
		return HELOList
	}
	switch c := HELOCheck(s[0]); c {
	case HELORequired, HELOBoth, HELOEqual, HELOAddress, HELOMail:
		return c
	}
	return HELOOff
}

func localSender(s string) string {
	switch s {
	case "":
		return SenderDomainOurs
	case SenderByRules, SenderIsUser, SenderInCert, SenderAny:
		return s
	}
	return strings.ToLower(s)
}

func contentCheck(s string) ContentCheck {
	switch s {
	case "-", "+", "!":
		return ContentCheck(s[0])
	}
	return ContentAll
}

func setLoader(v *Variables, s string) error {
	if len(s) > 1 {
		return fmt.Errorf("%q is not one character", s)
	}
	v.LoaderType, v.Loader = contentCheck(s), 0
	if v.LoaderType == ContentAll && s != "" {
		v.Loader = s[0]
	}
	return nil
}

func setDataBytes(v *Variables, s string) error {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return fmt.Errorf("%q is no number of octets", s)
	}
	v.DataBytes = n
	return nil
}

func number(s string, limit int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > limit {
		return 0, fmt.Errorf("%q is no whole number from 0 to %d", s, limit)
	}
	return n, nil
}

// maxReply bounds a text: a reply line holds 512 octets (RFC 5321 4.5.3.1.5).
const maxReply = 300

func reply(where func(*Replies) *string) func(*Variables, string) error {
	return func(v *Variables, s string) error {
		if len(s) > maxReply {
			return fmt.Errorf("longer than %d octets", maxReply)
		}
		*where(&v.Replies) = s
		return nil
	}
}
