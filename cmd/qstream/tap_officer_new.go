package main

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"qstream/tapper/vault/order"
)

// tapOfficerNewCmd makes a key. It asks nothing of a system.
type tapOfficerNewCmd struct {
	File string `arg:"" type:"path" help:"File of the private key, which is made; the public one goes to FILE.pub."`
}

func (c *tapOfficerNewCmd) Run(_ context.Context, p *Process) error {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	open, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return err
	}
	if err := writePEM(c.File, "PRIVATE KEY", secret, 0o600); err != nil {
		return err
	}
	if err := writePEM(c.File+".pub", "PUBLIC KEY", open, 0o644); err != nil {
		return errors.Join(err, os.Remove(c.File))
	}
	fmt.Fprintf(p.Stdout, "%s is secret; %s.pub, key %s, is for the vault\n", c.File, c.File, order.Officer{Key: public}.Fingerprint())
	return nil
}

// writePEM makes a file, and never over another.
func writePEM(name, kind string, der []byte, mode os.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	return errors.Join(pem.Encode(f, &pem.Block{Type: kind, Bytes: der}), f.Sync(), f.Close())
}
