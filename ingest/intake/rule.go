package intake

import (
	"strings"

	"qstream/ingest/gate"
	"qstream/mail"
)

// What the rule of a connection makes of its session.

// limit is how large this client's messages may be. DATABYTES only lowers it.
func (s *Session) limit() int64 {
	limit := s.in.cfg.MaxSize
	if s.client.MaxSize > 0 {
		limit = s.client.MaxSize
	}
	if n, set := s.client.Gate.Number(gate.DataBytes); set && n > 0 {
		limit = min(n, limit)
	}
	return limit
}

// enough reports that the session has had the recipients that MAXRECIPIENTS
// allows it.
func (s *Session) enough() bool {
	n, set := s.client.Gate.Number(gate.MaxRecipients)
	return set && n > 0 && s.taken >= n
}

// listed is the refusal of every recipient of this client, nil if there is
// none. Who has signed in is known by more than an address.
func (s *Session) listed() error {
	if s.client.Gate == nil || s.client.Gate.Refusal == nil || s.client.User != "" {
		return nil
	}
	r := s.client.Gate.Refusal
	return s.refused("listed", refuse(r.Code, r.Enhanced, "%s", r.Text))
}

// appended is a recipient with the value of RELAYCLIENT behind it.
func (s *Session) appended(a mail.Address) (mail.Address, error) {
	value, _ := s.client.Gate.Var(gate.RelayClient)
	if value == "" || s.client.User != "" {
		return a, nil
	}
	whole := a.Local
	if a.Domain != "" {
		whole += "@" + a.Domain
	}
	whole += value
	if i := strings.LastIndexByte(whole, '@'); i >= 0 {
		a = mail.Address{Local: whole[:i], Domain: whole[i+1:]}
	} else {
		a = mail.Address{Local: whole}
	}
	return mail.ParseAddress(a.String(), true)
}
