package ingest

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"qstream/directory"
	"qstream/ingest/auth"
	"qstream/ingest/httpd"
	"qstream/ingest/idempotency"
	"qstream/ingest/intake"
	pb "qstream/schemas/qstream/v1"
)

// ServiceHTTP is the name of submission by HTTP.
const ServiceHTTP = directory.ServiceHTTP

// addHTTP makes the HTTP server, if it is asked for, and the handler for
// programs of this host.
func (s *Ingest) addHTTP(d Deps, certs *certificates, users *auth.Authenticator) error {
	var err error
	s.keys, err = idempotency.New(idempotency.Config{
		Bus: d.Bus, Edge: s.cfg.Hostname, MaxKeys: s.cfg.MaxKeys, Lease: s.cfg.lease(), Now: d.Now, Log: d.Log, Metrics: d.Metrics,
	})
	if err != nil {
		return err
	}
	cfg, err := s.cfg.httpd()
	if err != nil {
		return err
	}
	cfg.Auth = users
	deps := httpd.Deps{
		Backend: s.posts(false), Keys: s.keys, Log: d.Log, Metrics: labelled(d.Metrics, "local"), Now: d.Now, Failpoint: d.Failpoint,
	}
	if s.local, err = httpd.NewHandler(cfg, deps); err != nil {
		return err
	}
	s.local.Loopback = true
	if s.cfg.HTTP == "" {
		return nil
	}
	if len(certs.pairs) > 0 {
		authorities, err := loadAuthorities(s.cfg.TLSClientCA)
		if err != nil {
			return err
		}
		if cfg.TLS, err = certs.service(s.cfg.HTTPClientCert, authorities); err != nil {
			return err
		}
	}
	cfg.RequireAuth, cfg.Door = true, s.gate.Door(ServiceHTTP)
	deps.Backend, deps.Metrics = s.posts(true), labelled(d.Metrics, ServiceHTTP)
	server, err := httpd.New(cfg, deps)
	if err != nil {
		return err
	}
	s.services = append(s.services, &service{name: ServiceHTTP, addr: s.cfg.HTTP, serve: server.Serve})
	return nil
}

// labelled is a registry for a service; nil for nil.
func labelled(r prometheus.Registerer, service string) prometheus.Registerer {
	if r == nil {
		return nil
	}
	return prometheus.WrapRegistererWith(prometheus.Labels{"service": service}, r)
}

// Local takes messages by HTTP from programs of this host alone, over whatever
// server it is given to. As by SMTP from there, a client may do what its
// network may, or sign in.
func (s *Ingest) Local() http.Handler { return s.local }

// posts makes the sessions of HTTP.
func (s *Ingest) posts(submission bool) httpd.Backend {
	return func(ctx context.Context, p httpd.Peer) (httpd.Session, error) {
		c := intake.Client{
			Protocol: pb.Protocol_PROTOCOL_HTTP, Addr: p.Addr, TLS: p.TLS, Gate: p.Gate, Gone: p.Gone,
			User: p.Auth.User, Vouched: p.Auth.Vouched, Submission: submission, Complete: true,
		}
		if p.Gate != nil {
			c.Name, c.Env = p.Gate.Name, p.Gate.Rule.Env
		}
		return s.intake.NewSession(ctx, c)
	}
}

// httpd is what all HTTP of the edge has in common.
func (c Config) httpd() (httpd.Config, error) {
	policy, err := c.policy()
	return httpd.Config{
		MaxSize: c.MaxSize, MaxRecipients: c.MaxRecipients, MaxJSON: c.HTTPMaxJSON, MaxConnections: c.MaxConnections,
		MaxLine: c.MaxLine, LineEnds: policy, HeaderTimeout: min(c.CommandTimeout, httpd.HeaderTimeout), DataTimeout: c.DataTimeout, MinRate: c.MinRate, Grace: c.Grace,
	}, err
}

// lease is for how long an edge holds an idempotency key: it must be able to
// publish twice within half of it.
func (c Config) lease() time.Duration {
	timeout := c.PublishTimeout
	if timeout <= 0 {
		timeout = intake.DefaultTimeout
	}
	return 4 * timeout
}
