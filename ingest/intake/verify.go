package intake

import (
	"fmt"
	"strconv"

	"github.com/emersion/go-smtp"

	"qstream/directory"
	"qstream/ingest/greylist"
	"qstream/ingest/verify"
	"qstream/mail"
)

// Verifier is what asks who a stranger's mail is from.
type Verifier struct {
	Checker  *verify.Checker
	Greylist *greylist.List
}

// verified is what a transaction has found out, and what its content is to be
// asked.
type verified struct {
	spf     *verify.SPF // what is written down: of the first recipient that wanted it
	known   map[verify.SPFRules]verify.SPF
	wanted  verify.Wanted
	enforce bool // of DMARC; the same for all recipients
	begun   bool
}

// trusted reports a client that isn't asked who it is.
func (s *Session) trusted() bool { return s.in.deps.Verify == nil || s.record.Relay }

// verifyRecipient asks what the owner of a recipient's domain wants to be
// asked before its mail is taken.
func (s *Session) verifyRecipient(address string) error {
	if s.trusted() {
		return nil
	}
	rules := s.verification(address)
	enforce := rules.DMARC == directory.DMARCEnforce
	v := &s.tx.verified
	if v.begun && v.enforce != enforce {
		return s.refused("verify", refuse(452, "4.5.3", "send to this recipient in another message"))
	}
	if err := s.checkSPF(rules); err != nil {
		return err
	}
	if err := s.checkGreylist(address, rules); err != nil {
		return err
	}
	v.begun, v.enforce = true, enforce
	v.wanted.DKIM = v.wanted.DKIM || rules.DKIM
	v.wanted.DMARC = v.wanted.DMARC || rules.DMARC != ""
	return nil
}

// verification is what is wanted for a recipient: what the policy or the owner
// of the domain says, and above it what the rule of the connection says.
func (s *Session) verification(address string) directory.Verification {
	var rules directory.Verification
	a, err := mail.ParseAddress(address, true)
	if err != nil {
		return rules
	}
	if wanted := s.tx.snap.Verification(a.Domain); wanted != nil {
		rules = *wanted
	}
	return ruled(rules, s.client.Env)
}

// ruled applies the variables SPF and POSTGREY of a connection's rule. What
// can't be understood changes nothing.
func ruled(rules directory.Verification, variables map[string]string) directory.Verification {
	if level, err := strconv.Atoi(variables["SPF"]); err == nil && level >= verify.SPFOff && level <= verify.SPFNone {
		rules.SPF.Level = level
	}
	if server, err := directory.ParsePolicyServer(variables["POSTGREY"]); err == nil {
		rules.Greylist = &directory.Greylist{OnFault: directory.GreylistPass, Server: server}
	}
	return rules
}

func (s *Session) checkSPF(rules directory.Verification) error {
	if rules.SPF.Level == verify.SPFOff {
		return nil
	}
	spf := s.spf(verify.SPFRules{Local: rules.SPF.LocalRules, Explain: rules.SPF.Explain, Receiver: s.by()})
	if status, refused := spf.Refusal(rules.SPF.Level); refused {
		return s.refused("spf", reply(status))
	}
	return nil
}

// spf is what SPF says; each rules are asked for once in a transaction, and
// none again while DNS is in trouble.
func (s *Session) spf(rules verify.SPFRules) verify.SPF {
	v := &s.tx.verified
	if found, ok := v.known[rules]; ok {
		return found
	}
	if v.spf != nil && v.spf.Result == verify.TempError {
		return *v.spf
	}
	client := verify.Client{IP: s.client.Addr.Addr(), HELO: s.client.HELO}
	found := s.in.deps.Verify.Checker.SPF(s.ctx, client, s.tx.envelope.ReversePath, rules)
	if v.known == nil {
		v.known = map[verify.SPFRules]verify.SPF{}
	}
	v.known[rules] = found
	if v.spf == nil {
		v.spf = &found
	}
	return found
}

func (s *Session) checkGreylist(address string, rules directory.Verification) error {
	g := rules.Greylist
	if g == nil {
		return nil
	}
	triple := greylist.Triple{Client: s.client.Addr.Addr(), ReversePath: s.tx.envelope.ReversePath, Recipient: address}
	deferFault := g.OnFault == directory.GreylistDefer
	var answer greylist.Answer
	if g.Server != "" {
		var err error
		answer, err = greylist.Postgrey(s.ctx, g.Server, greylist.Request{
			Triple: triple, ClientName: s.client.Name, HELO: s.client.HELO, ESMTP: s.client.ESMTP,
			Instance: fmt.Sprintf("%s.%d", s.record.Id, s.number),
		}, deferFault)
		if err != nil {
			s.in.deps.Log.Warn("greylist server gave no answer", "stage", "ingest", "host", g.Server, "err", err)
		}
	} else {
		allow := g.AutoAllow
		if allow == 0 {
			allow = -1
		}
		answer = s.in.deps.Verify.Greylist.Ask(s.ctx, triple, greylist.Rules{
			Delay: g.Delay, Window: g.Window, Lifetime: g.Lifetime, AutoAllow: allow, DeferFault: deferFault,
		})
	}
	if answer.Pass {
		return nil
	}
	status := answer.Status()
	if a, err := mail.ParseAddress(address, true); err == nil {
		if custom := s.settings(a.Domain).Replies.Greylisted; custom != "" {
			status.Text += " " + mail.Printable(custom)
		}
	}
	return s.refused("greylist", reply(status))
}

// listen makes what verifies content while it comes in; nil for who is
// trusted. Of content that comes before its envelope everything is asked that
// any recipient could want.
func (s *Session) listen() *verify.Message {
	if s.in.deps.Verify == nil {
		return nil
	}
	var wanted verify.Wanted
	if s.tx != nil {
		if s.trusted() {
			return nil
		}
		wanted = s.tx.verified.wanted
	} else if snap := s.snapshot(); snap != nil {
		if s.client.Proven || snap.ByNetwork(s.client.Addr.Addr()) != nil {
			return nil
		}
		for v := range snap.Verifications() {
			wanted.DKIM = wanted.DKIM || v.DKIM
			wanted.DMARC = wanted.DMARC || v.DMARC != ""
		}
	}
	wanted.ID = s.by()
	return s.in.deps.Verify.Checker.Message(s.ctx, wanted)
}

// conclude ends the verification of content and says whether it is refused.
func (s *Session) conclude(m *message) (verify.Findings, error) {
	if m.verify == nil || s.trusted() {
		return verify.Findings{}, nil
	}
	v := &s.tx.verified
	if v.wanted.DMARC && v.spf == nil {
		s.spf(verify.SPFRules{Receiver: s.by()})
	}
	found := m.verify.Finish(v.spf)
	if !v.wanted.DMARC {
		found.DMARC = nil
	}
	if !v.wanted.DMARC && !v.wanted.DKIM {
		found.DKIM, found.NoDKIM = nil, false
	}
	if found.Forged > 0 {
		s.in.deps.Log.Warn("content claims to have been verified here", "msg_id", m.id, "stage", "ingest", "host", s.record.ClientIp)
	}
	if status, refused := found.Refusal(); refused && v.enforce {
		return found, reply(status)
	}
	return found, nil
}

func reply(s mail.Status) *smtp.SMTPError { return refuse(s.Code, s.Enhanced, "%s", s.Text) }
