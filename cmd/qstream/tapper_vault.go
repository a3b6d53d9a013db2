package main

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"time"

	"qstream/mail"
	"qstream/tapper"
)

// vaultFlags say where the vault of lawful taps is.
type vaultFlags struct {
	Vault       string        `placeholder:"DIR" type:"path" help:"Keep the vault of lawful taps whose folder this is (tap init makes one)."`
	VaultBeat   time.Duration `placeholder:"DURATION" default:"5s" help:"How often a record is written to the vault's topics of orders and audit (default: ${default})."`
	VaultListen string        `placeholder:"ADDR" help:"Hear officers of other hosts here, by mutual TLS; on this host they use the vault's socket."`
	VaultCert   string        `placeholder:"FILE" type:"path" help:"PEM file of the certificate for that."`
	VaultKey    string        `placeholder:"FILE" type:"path" help:"PEM file of its key."`
	VaultCA     string        `name:"vault-ca" placeholder:"FILE" type:"path" help:"PEM file of the authority that signs officers' certificates."`

	keeps func() time.Duration // of a broker that keeps mail for less than its topics say
}

func (f vaultFlags) config() (tapper.VaultConfig, error) {
	cfg := tapper.VaultConfig{Dir: f.Vault, Beat: f.VaultBeat, Listen: f.VaultListen, Keeps: f.keeps}
	if f.Vault == "" && f.VaultListen != "" {
		return cfg, usagef("--vault-listen needs --vault")
	}
	if f.VaultListen == "" {
		return cfg, nil
	}
	if f.VaultCert == "" || f.VaultKey == "" || f.VaultCA == "" {
		return cfg, usagef("--vault-listen needs --vault-cert, --vault-key and --vault-ca")
	}
	var err error
	cfg.TLS, err = mutualTLS("--vault-", f.VaultCert, f.VaultKey, f.VaultCA)
	return cfg, err
}

// mutualTLS is for both sides of a connection on which both show certificates
// that one authority signed. flag is what the names of the flags begin with.
func mutualTLS(flag, cert, key, ca string) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, usagef("%scert %s and its key %s: %w", flag, mail.Printable(cert), mail.Printable(key), err)
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, usagef("%sca: %w", flag, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, usagef("%sca %s: no certificate in it; it is the PEM file of the authority that signed the other side's", flag, mail.Printable(ca))
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, RootCAs: pool,
	}, nil
}
