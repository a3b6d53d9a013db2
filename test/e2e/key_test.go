package e2e

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdSignkey writes a fresh Ed25519 key to a file, and its public key to
// another: signkey FILE [PUBLIC].
func cmdSignkey(ts *testscript.TestScript, neg bool, args []string) {
	_, key, err := ed25519.GenerateKey(nil)
	ts.Check(err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	if len(args) > 1 {
		der, err := x509.MarshalPKIXPublicKey(key.Public())
		ts.Check(err)
		ts.Check(os.WriteFile(ts.MkAbs(args[1]), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600))
	}
}

// signed: in time every record is under a checkpoint, and the log is what was
// signed.
func cmdSigned(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(eventually(patience, func() error {
		out, errs, err := of(ts).Verb("verify", "chain")
		if err != nil || bytes.Contains(out, []byte("not signed yet")) {
			return fmt.Errorf("%w: %s%s", cmp.Or(err, errors.New("not all is signed")), out, errs)
		}
		return nil
	}))
}
