package ingest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"qstream/directory"
	"qstream/ingest/intake"
	"qstream/ingest/netstrings"
	"qstream/ingest/qmqpd"
	"qstream/ingest/qmtpd"
	pb "qstream/schemas/qstream/v1"
)

// netstrings is what QMQP and QMTP share.
func (c Config) netstrings(size int64, secure *tls.Config) (netstrings.Config, error) {
	policy, err := c.policy()
	if size <= 0 {
		size = c.MaxSize
	}
	return netstrings.Config{
		MaxSize: size, MaxRecipients: c.MaxRecipients, MaxConnections: c.MaxConnections,
		MaxLine: c.MaxLine, LineEnds: policy, TLS: secure,
		IdleTimeout: c.CommandTimeout, DataTimeout: c.DataTimeout, MinRate: c.MinRate, Grace: c.Grace,
	}, err
}

// withClients asks clients for certificates, and verifies those that come.
func (c Config) withClients(secure *tls.Config) (*tls.Config, error) {
	if c.ClientCA == "" {
		return secure, nil
	}
	text, err := os.ReadFile(c.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("ingest: client_ca: %w", err)
	}
	secure.ClientAuth, secure.ClientCAs = tls.VerifyClientCertIfGiven, x509.NewCertPool()
	if !secure.ClientCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("ingest: client_ca %s holds no certificate", c.ClientCA)
	}
	return secure, nil
}

// addQMQP makes the QMQP server, if it is asked for.
func (s *Ingest) addQMQP(d Deps) error {
	if s.cfg.QMQP == "" {
		return nil
	}
	cfg, err := s.cfg.netstrings(s.cfg.QMQPMaxSize, nil)
	if err != nil {
		return err
	}
	cfg.Door = s.gate.Door(directory.ServiceQMQP)
	server, err := qmqpd.New(cfg, qmqpd.Deps{
		Backend: s.backend(pb.Protocol_PROTOCOL_QMQP, cfg), Admit: s.relays, Log: d.Log, Metrics: d.Metrics, Now: d.Now,
	})
	if err != nil {
		return err
	}
	s.services = append(s.services, &service{name: "qmqp", addr: s.cfg.QMQP, serve: server.Serve})
	return nil
}

// addQMTP makes the QMTP and QMTPS servers that are asked for.
func (s *Ingest) addQMTP(d Deps, certs *certificates) error {
	for _, one := range []struct {
		name, addr string
		tls        bool
	}{{"qmtp", s.cfg.QMTP, false}, {"qmtps", s.cfg.QMTPS, true}} {
		if one.addr == "" {
			continue
		}
		var with *tls.Config
		if one.tls {
			secure, err := certs.service(clientNone, nil)
			if err != nil {
				return err
			}
			if with, err = s.cfg.withClients(secure); err != nil {
				return err
			}
		}
		cfg, err := s.cfg.netstrings(s.cfg.QMTPMaxSize, with)
		if err != nil {
			return err
		}
		cfg.Door = s.gate.Door(one.name)
		server, err := qmtpd.New(cfg, qmtpd.Deps{Backend: s.backend(pb.Protocol_PROTOCOL_QMTP, cfg), Log: d.Log, Metrics: d.Metrics, Now: d.Now})
		if err != nil {
			return err
		}
		s.services = append(s.services, &service{name: one.name, addr: one.addr, serve: server.Serve})
	}
	return nil
}

func (s *Ingest) backend(protocol pb.Protocol, cfg netstrings.Config) netstrings.Backend {
	return func(ctx context.Context, p netstrings.Peer) (netstrings.Session, error) {
		return s.intake.NewSession(ctx, intake.Client{
			Protocol: protocol, Addr: p.Addr, Name: p.Gate.Name, TLS: p.TLS, MaxSize: cfg.WithDefaults().MaxSize, Gate: p.Gate, Env: p.Gate.Rule.Env, Gone: p.Gone,
			Proven: p.TLS != nil && len(p.TLS.VerifiedChains) > 0 || protocol == pb.Protocol_PROTOCOL_QMQP && ruled(p),
		})
	}
}

// relays reports whether a QMQP client may send to whomever it likes: its
// network is a tenant's, or a rule is for it.
func (s *Ingest) relays(p netstrings.Peer) bool {
	snap := s.snapshot()
	return snap != nil && (snap.ByNetwork(p.Addr.Addr()) != nil || ruled(p))
}

// ruled reports that the client came through by a rule that allows it, and not
// for want of one. The directory takes no such rule for everybody.
func ruled(p netstrings.Peer) bool { return p.Gate.Rule.Line > 0 }
