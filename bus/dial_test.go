package bus

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kfake"

	"qstream/schemas"
)

func TestDialRefusesBadSettings(t *testing.T) {
	for name, cfg := range map[string]Config{
		"no seeds":       {},
		"SASL mechanism": {Seeds: []string{"127.0.0.1:1"}, SASL: SASL{Mechanism: "GSSAPI"}},
		"seed":           {Seeds: []string{"a:b:c"}},
	} {
		if b, err := Dial(cfg); err == nil {
			b.Close()
			t.Errorf("%s: no error", name)
		}
	}
}

// pair is a certificate for 127.0.0.1 and who trusts it.
func pair(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "broker"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(c)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, &tls.Config{RootCAs: pool}
}

func TestDialSpeaksTLSAndSASL(t *testing.T) {
	t.Parallel()
	server, client := pair(t)
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		t.Run(mechanism, func(t *testing.T) {
			c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.TLS(server), kfake.EnableSASL(), kfake.Superuser(mechanism, "qstream", "secret"))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			cfg := Config{
				Seeds: c.ListenAddrs(), TLS: client, Registerer: prometheus.NewRegistry(), Timeout: 3 * time.Second,
				SASL: SASL{Mechanism: mechanism, User: "qstream", Password: "secret"},
			}
			b, err := Dial(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			if _, err := b.CreateTopics(t.Context(), schemas.FixedTopics(), CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			publishN(t, b, schemas.Events, 3)
			n := 0
			if err := b.Read(t.Context(), []string{schemas.Events}, Start{}, func(Record) error { n++; return nil }); err != nil || n != 3 {
				t.Fatalf("%d records, %v", n, err)
			}
		})
	}
}

func TestEveryClientSharesTheMetrics(t *testing.T) {
	t.Parallel()
	b, _ := newTestBus(t)
	registry := prometheus.NewRegistry()
	told, err := Dial(Config{Seeds: b.cfg.Seeds, Registerer: registry})
	if err != nil {
		t.Fatal(err)
	}
	defer told.Close()
	topic := newTopic(t, told, 1).Name
	publishN(t, told, topic, 2)
	if err := told.Read(t.Context(), []string{topic}, Start{}, func(Record) error { return nil }); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			for _, l := range m.Label {
				if l.GetName() == "topic" {
					t.Errorf("%s has topics as labels", f.GetName())
				}
			}
		}
	}
	if len(families) < 10 {
		t.Errorf("%d families of metrics", len(families))
	}
}

func TestClosedBusRefuses(t *testing.T) {
	b, err := Dial(Config{Seeds: []string{"127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	if err := b.Publish(t.Context(), &Record{Topic: "x"}); err == nil {
		t.Error("a closed bus publishes")
	}
}
