package intake

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"qstream/directory"
	"qstream/ingest/lookup"
	"qstream/ingest/policy"
	"qstream/mail"
	"qstream/qmail"
	pb "qstream/schemas/qstream/v1"
)

// conduct is what policies remember of a session.
type conduct struct {
	accepted int  // recipients
	notfound int  // recipients that didn't exist
	ended    bool // DATA is refused

	heard    *qmail.List // the list that the greeting was looked up in last
	greeting qmail.Match // what it says
}

// greeting looks the session's greeting up. It doesn't change, and sites have
// one list or few.
func (s *Session) greeting(l *qmail.List) qmail.Match {
	if c := &s.conduct; c.heard != l {
		c.heard, c.greeting = l, l.HELO(s.client.HELO)
	}
	return s.conduct.greeting
}

// judgement is what policies remember of a transaction.
type judgement struct {
	size     int64                                  // announced
	offered  int                                    // recipients
	policy   *directory.Policy                      // that was asked for first
	holds    *policy.Settings                       // by it; nil: none yet
	settings map[*directory.Policy]*policy.Settings // by others
	answers  [policy.MailboxHere + 1]policy.Answer  // of what doesn't change with the recipient
	content  *policy.Content                        // of the recipients taken; nil: none yet
}

// Refused is the answer to DATA that ends the session; nil if content may
// come. Front ends ask before they let the client send it.
func (s *Session) Refused() error {
	if !s.conduct.ended {
		return nil
	}
	v := policy.Tarpitted()
	return s.refused(v.Reason, answer(v.Status))
}

func answer(st mail.Status) *smtp.SMTPError { return refuse(st.Code, st.Enhanced, "%s", st.Text) }

// settings are what holds for recipients of a domain.
func (s *Session) settings(domain string) *policy.Settings {
	j := &s.tx.judgement
	p := s.tx.snap.Policy(s.record.Relay, s.record.Tenant, domain)
	if j.holds != nil && j.policy == p {
		return j.holds
	}
	if set := j.settings[p]; set != nil {
		return set
	}
	set := &policy.Settings{}
	if s.in.deps.Lookup != nil {
		set = s.in.deps.Lookup.Settings(s.tx.snap, p, s.client.Env)
	}
	if p := s.client.Protocol; p != pb.Protocol_PROTOCOL_UNSPECIFIED && p != pb.Protocol_PROTOCOL_SMTP && p != pb.Protocol_PROTOCOL_LMTP {
		set.HELO, set.BadHELO = qmail.HELOOff, nil // there is no greeting
	}
	if s.client.CertSender && set.LocalSender == "" {
		set.LocalSender = qmail.SenderInCert
	}
	if j.holds == nil { // nearly always the only one
		j.policy, j.holds = p, set
		return set
	}
	if j.settings == nil {
		j.settings = map[*directory.Policy]*policy.Settings{}
	}
	j.settings[p] = set
	return set
}

// judge asks the policy of a recipient; nil: it may be taken.
func (s *Session) judge(a mail.Address, address string, owned bool) error {
	j := &s.tx.judgement
	j.offered++
	if s.ahead != nil {
		j.size = s.ahead.size
	}
	set := s.settings(a.Domain)
	f := policy.Facts{
		Relay: s.record.Relay, Owned: owned, IP: s.client.Addr.Addr(), Name: s.client.Name,
		User: s.client.User, CertEmail: s.certEmail(), HELO: s.client.HELO, Greeting: s.greeting,
		Sender: s.tx.envelope.ReversePath, Recipient: address, Size: j.size,
		Offered: j.offered, Accepted: s.conduct.accepted, Notfound: s.conduct.notfound,
		Answers: j.answers, Companion: j.content,
	}
	if p := set.Policy; p != nil && p.Recipients != nil && p.Recipients.Lists(address) {
		f.Answers[policy.MailboxHere] = policy.Yes // nobody has to be asked
	}
	v, need := policy.Recipient(set, &f)
	for need != policy.Nothing {
		if s.in.deps.Lookup == nil || f.Answers[need] != policy.Unknown {
			return s.fault("ask policy", fmt.Errorf("fact %d can't be found out", need))
		}
		f.Answers[need] = s.in.deps.Lookup.Answer(s.ctx, need, lookup.Question{
			Snapshot: s.tx.snap, Settings: set, Facts: &f, Env: func() []string { return s.environment(set, address) },
		})
		if need != policy.MailboxHere {
			j.answers[need] = f.Answers[need]
		}
		v, need = policy.Recipient(set, &f)
	}
	if err := s.wait(v.Delay); err != nil {
		return s.fault("tarpit", err)
	}
	s.conduct.ended = s.conduct.ended || v.End
	if v.Notfound {
		s.conduct.notfound++
	}
	if v.Status.Code != 0 {
		return s.refused(v.Reason, answer(v.Status))
	}
	return nil
}

// admitted notes a recipient that was taken.
func (s *Session) admitted(domain string) {
	s.conduct.accepted++
	if s.tx.judgement.content == nil {
		c := s.settings(domain).Content(s.record.Relay)
		s.tx.judgement.content = &c
	}
}

func (s *Session) wait(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-s.ctx.Done():
		return errors.New("the session was ended")
	}
}

// certEmail is the address in the client's verified certificate.
func (s *Session) certEmail() string {
	if s.client.TLS == nil || len(s.client.TLS.VerifiedChains) == 0 {
		return ""
	}
	if all := s.client.TLS.PeerCertificates[0].EmailAddresses; len(all) > 0 {
		return all[0]
	}
	return ""
}

// environment is what qmail-smtpd's programs find in theirs: the variables of
// the connection's rule, and what is known of client and transaction.
func (s *Session) environment(set *policy.Settings, address string) []string {
	rcpts := []string{}
	if set.DeliverTo != "" {
		rcpts = append(rcpts, set.DeliverTo)
	}
	for _, r := range s.tx.envelope.Recipients {
		rcpts = append(rcpts, r.Address)
	}
	known := append(s.ofConnection(), [][2]string{
		{"PROTO", "TCP"}, {"HELOHOST", s.client.HELO}, {"AUTHUSER", s.client.User}, {"AUTHPROTOCOL", strings.ToLower(s.client.Mechanism)},
		{"MAILFROM", s.tx.envelope.ReversePath}, {"RCPTTO", strings.Join(append(rcpts, address), " ")},
	}...)
	var env []string
	for _, name := range slices.Sorted(maps.Keys(s.client.Env)) {
		// A rule can't say who the client is, not even of what isn't known.
		if !slices.ContainsFunc(known, func(v [2]string) bool { return v[0] == name }) {
			env = append(env, name+"="+s.client.Env[name])
		}
	}
	for _, v := range known {
		if v[1] != "" || v[0] == "MAILFROM" {
			env = append(env, v[0]+"="+mail.Printable(v[1]))
		}
	}
	return env
}

// ofConnection is what tcpserver and sslserver tell; empty: it isn't known.
func (s *Session) ofConnection() [][2]string {
	info, local, port := s.client.User, "", ""
	if g := s.client.Gate; g != nil {
		if info == "" {
			info = g.Info
		}
		if g.Local.IsValid() {
			local, port = g.Local.Addr().String(), strconv.Itoa(int(g.Local.Port()))
		}
	}
	var version, cipher, subject, name string
	if c := s.client.TLS; c != nil {
		version, cipher = strings.ReplaceAll(s.record.TlsVersion, "TLS 1", "TLSv1"), s.record.TlsCipher
		if len(c.VerifiedChains) > 0 {
			who := c.PeerCertificates[0].Subject
			subject, name = who.String(), who.CommonName
		}
	}
	return [][2]string{
		{"TCPREMOTEIP", s.record.ClientIp}, {"TCPREMOTEPORT", strconv.Itoa(int(s.record.ClientPort))},
		{"TCPREMOTEHOST", s.client.Name}, {"TCPREMOTEINFO", info}, {"TCPLOCALIP", local}, {"TCPLOCALPORT", port},
		{"SSL_PROTOCOL", version}, {"SSL_CIPHER", cipher},
		{"SSL_CLIENT_S_DN", subject}, {"SSL_CLIENT_S_DN_CN", name}, {"SSL_CLIENT_S_DN_Email", s.certEmail()},
	}
}

// scanned is a search of a message's content, nil if nothing is searched for.
func (j *judgement) scanned() (policy.Content, *qmail.ContentScan) {
	if j.content == nil {
		return policy.Content{}, nil
	}
	if j.content.Rules.Empty() {
		return *j.content, nil
	}
	return *j.content, qmail.NewContentScan(j.content.Rules)
}

// obey looks at content by its recipients' policy.
func (m *message) obey(p []byte) error {
	if m.policy.DataBytes > 0 && m.size > m.policy.DataBytes {
		return answer(policy.TooBig(m.policy.BigReply).Status)
	}
	if m.scan == nil {
		return nil
	}
	_, _ = m.scan.Write(p)
	if m.scan.Found != qmail.Clean {
		return answer(m.policy.Found(m.scan.Found).Status)
	}
	return nil
}
