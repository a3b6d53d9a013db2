package schemes_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"go.uber.org/goleak"

	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
	"qstream/test/fakemx"
	"qstream/test/fakeqm"
	"qstream/transport"
	"qstream/transport/resolver"
	"qstream/transport/schemes"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// place is somewhere a transport delivers to in a test.
type place struct {
	target  transport.Target
	arrived func() [][]byte // one per recipient or message, header lines of the place itself cut off
	perRcpt bool            // one copy for each recipient
	lf      bool            // lines end in LF there
}

// places has a row for every scheme that keeps something.
var places = map[string]func(t *testing.T) place{
	"smtp": func(t *testing.T) place { return server(t, fakemx.Config{}) },
	"lmtp": func(t *testing.T) place { return server(t, fakemx.Config{LMTP: true}) },
	"maildir": func(t *testing.T) place {
		folder := t.TempDir()
		return place{target: transport.Target{Path: folder}, perRcpt: true, lf: true, arrived: func() [][]byte {
			names, _ := filepath.Glob(folder + "/new/*")
			var all [][]byte
			for _, name := range names {
				b, err := os.ReadFile(name)
				if err != nil {
					t.Error(err)
				}
				all = append(all, b[bytes.Index(b, []byte("Received:")):])
			}
			return all
		}}
	},
	"qmtp":    func(t *testing.T) place { return qmServer(t, fakeqm.Config{}) },
	"qmtps":   func(t *testing.T) place { return qmServer(t, fakeqm.Config{TLS: selfSigned(t)}) },
	"qmqp":    func(t *testing.T) place { return qmServer(t, fakeqm.Config{QMQP: true}) },
	"discard": func(*testing.T) place { return place{arrived: func() [][]byte { return nil }} },
}

func server(t *testing.T, cfg fakemx.Config) place {
	s, err := fakemx.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return place{target: transport.Target{Host: "127.0.0.1", Port: s.Port()}, arrived: func() [][]byte {
		var all [][]byte
		for _, m := range s.Messages() {
			all = append(all, m.Data)
		}
		return all
	}}
}

func qmServer(t *testing.T, cfg fakeqm.Config) place {
	s, err := fakeqm.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return place{lf: cfg.QMQP, target: transport.Target{Host: "127.0.0.1", Port: s.Port()}, arrived: func() [][]byte {
		var all [][]byte
		for _, m := range s.Messages() {
			all = append(all, []byte(m.Content))
		}
		return all
	}}
}

// selfSigned is what a server without a name presents.
func selfSigned(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

const body = "Subject: x\r\n\r\none\r\n.two\r\n"

func attempt() *transport.Attempt {
	return &transport.Attempt{
		MessageID: mail.NewID(time.Now()), HELO: "out.example", Prepend: []byte("Received: by us\r\n"),
		Recipients: []*pb.Recipient{{Address: "a@r.example"}, {Number: 1, Address: "b@r.example"}},
		Size:       int64(len(body)),
		Content: func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(body)), nil
		},
	}
}

// TestEveryScheme is what every transport must hold to; a new one needs only
// a row in places.
func TestEveryScheme(t *testing.T) {
	for _, scheme := range schemes.Names {
		t.Run(scheme, func(t *testing.T) {
			if places[scheme] == nil {
				t.Fatal("no row in places")
			}
			t.Run("delivers", func(t *testing.T) { delivers(t, scheme) })
			t.Run("content that fails", func(t *testing.T) { contentFails(t, scheme) })
			t.Run("revoked before", func(t *testing.T) { revokedBefore(t, scheme) })
			t.Run("revoked at the last moment", func(t *testing.T) { revokedAtDot(t, scheme) })
			t.Run("not held at the last moment", func(t *testing.T) { notHeldAtDot(t, scheme) })
		})
	}
}

func set(t *testing.T, scheme string) (*schemes.Set, place) {
	t.Helper()
	r, err := resolver.New(resolver.Config{Servers: []string{"127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := schemes.New(schemes.Config{Resolver: r})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	p := places[scheme](t)
	p.target.Scheme = scheme
	return s, p
}

func delivers(t *testing.T, scheme string) {
	s, p := set(t, scheme)
	a := attempt()
	var calls []string
	a.BeforeDot = func() { calls = append(calls, "before") }
	a.AfterDot = func() { calls = append(calls, "after") }
	r := s.Deliver(t.Context(), p.target, a)
	if !r.Delivered() || !r.Sent || len(r.Outcomes) != 2 {
		t.Fatalf("%+v", r)
	}
	want := "Received: by us\r\n" + body
	if p.lf {
		want = strings.ReplaceAll(want, "\r\n", "\n")
	}
	got := p.arrived()
	if scheme == "discard" {
		return
	}
	if n := len(got); n != 1 && !p.perRcpt || p.perRcpt && n != 2 {
		t.Errorf("%d copies", n)
	}
	for _, g := range got {
		if string(g) != want {
			t.Errorf("arrived %q, want %q", g, want)
		}
	}
	if !slices.Equal(calls, []string{"before", "after"}) {
		t.Errorf("calls %v", calls)
	}
}

// nothing checks a result in which nobody may have got anything.
func nothing(t *testing.T, p place, r transport.Result, kind transport.Kind) {
	t.Helper()
	for _, o := range r.Outcomes {
		if o.Kind != kind || !o.Status.Temporary() {
			t.Errorf("%+v", o)
		}
	}
	if n := len(p.arrived()); n != 0 || r.Sent || len(r.Outcomes) != 2 {
		t.Errorf("%d copies arrived, %+v", n, r)
	}
}

func contentFails(t *testing.T, scheme string) {
	if scheme == "discard" {
		t.Skip("reads no content")
	}
	s, p := set(t, scheme)
	for _, content := range []func(context.Context) (io.ReadCloser, error){
		func(context.Context) (io.ReadCloser, error) { return nil, errors.New("no such offset") },
		func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(strings.NewReader(body), iotest.ErrReader(errors.New("wrong hash")))), nil
		},
	} {
		a := attempt()
		a.Content = content
		nothing(t, p, s.Deliver(t.Context(), p.target, a), transport.Failed)
	}
}

func revokedBefore(t *testing.T, scheme string) {
	if scheme == "discard" {
		t.Skip("takes no time")
	}
	s, p := set(t, scheme)
	a := attempt()
	revoked, revoke := context.WithCancel(t.Context())
	revoke()
	a.Revoked = revoked
	nothing(t, p, s.Deliver(t.Context(), p.target, a), transport.Cut)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	nothing(t, p, s.Deliver(ctx, p.target, attempt()), transport.Cut)
}

func revokedAtDot(t *testing.T, scheme string) {
	if scheme == "discard" {
		t.Skip("takes no time")
	}
	s, p := set(t, scheme)
	a := attempt()
	revoked, revoke := context.WithCancel(t.Context())
	a.Revoked = revoked
	a.BeforeDot = revoke
	nothing(t, p, s.Deliver(t.Context(), p.target, a), transport.Cut)
}

// notHeldAtDot has another owner of whom nobody here was told.
func notHeldAtDot(t *testing.T, scheme string) {
	if scheme == "discard" {
		t.Skip("takes no time")
	}
	s, p := set(t, scheme)
	a := attempt()
	asked := 0
	a.Held = func() bool { asked++; return false }
	a.AfterDot = func() { t.Error("passed the dot") }
	nothing(t, p, s.Deliver(t.Context(), p.target, a), transport.Cut)
	if asked == 0 {
		t.Error("nobody asked")
	}
}

func TestUnknownSchemeIsTemporary(t *testing.T) {
	s, _ := set(t, "discard")
	r := s.Deliver(t.Context(), transport.Target{Scheme: "pigeon"}, attempt())
	if o := r.Outcomes[1]; o.Kind != transport.Failed || !o.Status.Temporary() {
		t.Errorf("%+v", r)
	}
}
