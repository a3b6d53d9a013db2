package ingest

import (
	"context"
	"fmt"

	"github.com/emersion/go-smtp"

	"qstream/directory"
	"qstream/ingest/auth"
	"qstream/ingest/intake"
	"qstream/ingest/smtpd"
	pb "qstream/schemas/qstream/v1"
)

// Names of the services that speak SMTP.
const (
	ServiceSMTP        = directory.ServiceSMTP
	ServiceSubmission  = directory.ServiceSubmission
	ServiceSubmissions = directory.ServiceSubmissions
)

// users is what signs them in, for all services.
func (s *Ingest) users(d Deps) (*auth.Authenticator, error) {
	authorities, err := loadAuthorities(s.cfg.TLSClientCA)
	if err != nil {
		return nil, err
	}
	return auth.New(s.cfg.Auth, auth.Deps{
		Snapshot: s.snapshot, ClientCAs: authorities, Log: d.Log, Metrics: d.Metrics, Now: d.Now,
	})
}

// addSMTP makes those services that speak SMTP and have an address.
func (s *Ingest) addSMTP(d Deps, certs *certificates, users *auth.Authenticator) error {
	lines, err := s.cfg.smtpd()
	if err != nil {
		return err
	}
	authorities, err := loadAuthorities(s.cfg.TLSClientCA)
	if err != nil {
		return err
	}
	for _, of := range s.cfg.lines() {
		front := lines
		if len(certs.pairs) > 0 {
			if front.TLS, err = certs.service(of.clientCert, authorities); err != nil {
				return err
			}
		}
		if authorities != nil && front.TLS != nil {
			if front.RuleTLS, err = certs.service(clientRequest, authorities); err != nil {
				return err
			}
		}
		front.RuleAuth, front.PlainAuth = users, s.cfg.PlainAuth
		if of.offerAuth {
			front.Auth = users
		}
		front.RequireAuth, front.RequireTLS, front.ImplicitTLS = of.submission, of.requireTLS, of.implicit
		if front.TLS == nil && (of.requireTLS || of.implicit) {
			return fmt.Errorf("ingest: %s needs tls_cert and tls_key", of.name)
		}
		front.Door = s.gate.Door(of.name)
		server, err := smtpd.New(front, s.sessions(of), d.Log, labelled(d.Metrics, of.name))
		if err != nil {
			return err
		}
		s.services = append(s.services, &service{name: of.name, addr: of.addr, serve: server.Serve})
	}
	return nil
}

// sessions makes the sessions of a service.
func (s *Ingest) sessions(of serviceConfig) smtpd.Backend {
	return func(ctx context.Context, p smtpd.Peer) (smtp.Session, error) {
		return s.intake.NewSession(ctx, intake.Client{
			Protocol: pb.Protocol_PROTOCOL_SMTP, Addr: p.Addr, Name: p.Gate.Name, Gate: p.Gate, Env: p.Gate.Rule.Env, HELO: p.HELO, ESMTP: p.ESMTP, TLS: p.TLS,
			User: p.Auth.User, Vouched: p.Auth.Vouched, Mechanism: p.Auth.Mechanism, Submission: of.submission,
			Proven: p.Proven, CertSender: p.CertSender, Gone: p.Gone,
		})
	}
}

// serviceConfig is what distinguishes a service.
type serviceConfig struct {
	name, addr string
	submission bool // for users, who sign in
	offerAuth  bool
	requireTLS bool
	implicit   bool   // TLS from the first octet
	clientCert string // see clientNone
}

// lines are the services with an address that speak SMTP. 465 is TLS from the start (RFC 8314
// 3.3); 587 wants STARTTLS before AUTH.
func (c Config) lines() []serviceConfig {
	all := []serviceConfig{
		{name: ServiceSMTP, addr: c.SMTP, offerAuth: c.SMTPAuth, requireTLS: c.SMTPTLS == "require", clientCert: c.SMTPClientCert},
		{name: ServiceSubmission, addr: c.Submission, submission: true, offerAuth: true, requireTLS: !c.PlainAuth, clientCert: c.SubmissionClientCert},
		{name: ServiceSubmissions, addr: c.Submissions, submission: true, offerAuth: true, implicit: true, clientCert: c.SubmissionsClientCert},
	}
	var wanted []serviceConfig
	for _, s := range all {
		if s.addr != "" {
			wanted = append(wanted, s)
		}
	}
	return wanted
}
