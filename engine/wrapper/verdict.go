package wrapper

import (
	"qstream/engine"
	"qstream/engine/process"
	"qstream/mail"
)

// Exit codes of qmail-queue(8) that say more than permanent (11 to 40) or
// temporary (all else).
const (
	codeAddress    = 11
	codeRefused    = 31
	codeVirus      = 32
	codeSpam       = 33
	codeAttachment = 34
	codeCustom     = 82 // of notqmail: what was said on descriptor 6 decides
)

// verdict reads how a wrapper ended that didn't exit with 0, and what it said
// on descriptor 6.
func verdict(r process.Result, said string) engine.Verdict {
	text := ""
	letter := byte(0)
	if said != "" && (said[0] == 'Z' || said[0] == 'D') {
		letter, text = said[0], engine.Text(said[1:])
	}
	permanent := r.Signal == 0 && r.Code >= 11 && r.Code <= 40
	if r.Signal == 0 && r.Code == codeCustom {
		permanent = letter == 'D'
	}
	if !permanent {
		v := engine.Verdict{Reason: engine.Trouble, Detail: r.Detail()}
		if letter == 'Z' {
			v.Detail, v.Advice = text, engine.Defer
			v.Status = mail.Status{Code: 451, Enhanced: "4.3.0", Text: text}
		}
		return v
	}
	v := engine.Verdict{Outcome: engine.Refused, Advice: engine.Refuse, Detail: r.String()}
	switch r.Code {
	case codeVirus:
		v.Outcome, v.Name, v.Detail = engine.Malware, "infected", "virus"
	case codeSpam:
		v.Outcome, v.Detail = engine.Spam, "spam"
	case codeAttachment:
		v.Name, v.Detail = "attachment", "bad attachment"
	case codeAddress:
		v.Detail = "an address is too long"
	case codeRefused:
		v.Detail = "refused"
	}
	if text != "" && letter == 'D' {
		v.Detail = text
	}
	v.Status = mail.Status{Code: 554, Enhanced: "5.7.1", Text: v.Detail}
	return v
}
