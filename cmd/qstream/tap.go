package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"qstream/mail"
	"qstream/replay/bundle"
	"qstream/tapper/vault/docket"
	"qstream/tapper/vault/office"
	"qstream/tapper/vault/order"
)

// tapCmd is about copies of mail: archives, and lawful taps. But for archive,
// init, officer new and import, its verbs are an officer's: a tapper that keeps the vault answers them.
type tapCmd struct {
	Archive tapArchiveCmd `cmd:"" help:"Archives: what is copied openly, and how their sinks do."`
	Init    tapInitCmd    `cmd:"" help:"Make a vault, with its first two officers."`
	Officer tapOfficerCmd `cmd:"" help:"Officers: make a key, list, add and remove them."`
	Order   tapOrderCmd   `cmd:"" help:"Orders: ask for them, approve and revoke them, look at them."`
	Import  tapImportCmd  `cmd:"" help:"Make drafts of orders from qmail's control/taps."`
	Audit   tapAuditCmd   `cmd:"" help:"Print who looked at orders, changed them, or tried to."`
	Gaps    tapGapsCmd    `cmd:"" help:"Check that an order's copies are all there."`
	Keys    tapKeysCmd    `cmd:"" help:"The keys that the vault's topics are sealed with."`
}

// officerFlags say who asks, and where the vault's tapper is.
type officerFlags struct {
	Vault   string `placeholder:"DIR" type:"path" help:"Folder of a vault whose tapper runs on this host."`
	Office  string `placeholder:"HOST:PORT" help:"Address of a tapper elsewhere (its --vault-listen), by mutual TLS."`
	Cert    string `placeholder:"FILE" type:"path" help:"PEM file of our certificate, for --office."`
	CertKey string `placeholder:"FILE" type:"path" help:"PEM file of its key."`
	CA      string `name:"ca" placeholder:"FILE" type:"path" help:"PEM file of the authority that signs the tapper's certificate."`
	As      string `required:"" placeholder:"NAME" help:"The officer who asks."`
	Key     string `required:"" placeholder:"FILE" type:"existingfile" help:"PEM file of the officer's private key (tap officer new)."`
}

// open comes to the office, and learns which vault it is.
func (f officerFlags) open(ctx context.Context, p *Process) (*office.Client, office.Hello, error) {
	key, err := bundle.ReadPrivateKey(f.Key)
	if err != nil {
		return nil, office.Hello{}, usagef("--key: %w; qstream tap officer new makes one", err)
	}
	var c *office.Client
	switch {
	case f.Vault != "" && f.Office == "":
		c = office.BySocket(docket.Socket(f.Vault), f.As, key, p.Now)
	case f.Office != "" && f.Vault == "":
		if f.Cert == "" || f.CertKey == "" || f.CA == "" {
			return nil, office.Hello{}, usagef("--office needs --cert, --cert-key and --ca")
		}
		cfg, err := mutualTLS("--", f.Cert, f.CertKey, f.CA)
		if err != nil {
			return nil, office.Hello{}, err
		}
		c = office.ByTLS(f.Office, cfg, f.As, key, p.Now)
	case f.Vault != "":
		return nil, office.Hello{}, usagef("--vault is a tapper on this host, --office one elsewhere: say one of them")
	default:
		return nil, office.Hello{}, usagef("say where the vault is: --vault or --office")
	}
	hello, err := c.Hello(ctx)
	if err != nil {
		c.Close()
		return nil, hello, f.unreached(officeError(err))
	}
	return c, hello, nil
}

// unreached says of a tapper that doesn't answer where it was looked for, and
// what may be missing there.
func (f officerFlags) unreached(err error) error {
	if !errors.Is(err, office.ErrReach) {
		return err
	}
	if f.Office != "" {
		return fmt.Errorf("no tapper with a vault answers at %s; is it its --vault-listen, and do the certificates fit? %w", mail.Printable(f.Office), err)
	}
	if _, err := docket.Open(f.Vault); err != nil {
		return usagef("--vault: %w (a tapper elsewhere is asked by --office)", err)
	}
	return fmt.Errorf("no tapper with the vault in %s answers on this host; is one started (qstream tapper --vault, or up --vault), and does its log say that it could read the vault's topics? %w", mail.Printable(f.Vault), err)
}

// askOrder is one question about an order.
func (f officerFlags) askOrder(ctx context.Context, p *Process, verb, id string, answer any) error {
	return noOrder(f.ask(ctx, p, verb, office.IDArgs{ID: typedID(id)}, answer), id)
}

// noOrder says which order it is that isn't there.
func noOrder(err error, id string) error {
	if errors.Is(err, office.ErrNone) {
		return notFoundf("the vault has no order %s; those it has: qstream tap order list --ended", mail.Printable(typedID(id)))
	}
	return err
}

// ask is one question to the office.
func (f officerFlags) ask(ctx context.Context, p *Process, verb string, args, answer any) error {
	c, _, err := f.open(ctx, p)
	if err != nil {
		return err
	}
	defer c.Close()
	return officeError(c.Ask(ctx, verb, args, answer))
}

// officeError gives an error of the office its exit code.
func officeError(err error) error {
	switch {
	case errors.Is(err, office.ErrNone):
		return notFoundf("%w", err)
	case errors.Is(err, office.ErrInvalid), errors.Is(err, order.ErrInvalid):
		return usagef("%w", err)
	}
	return err
}

// readOfficer reads a public key of an officer.
func readOfficer(name, file string) (order.Officer, error) {
	key, err := bundle.ReadPublicKey(file)
	if err != nil {
		return order.Officer{}, usagef("officer %s: %w; it is the file FILE.pub that qstream tap officer new makes", mail.Printable(name), err)
	}
	o := order.Officer{Name: name, Key: ed25519.PublicKey(key)}
	if err := o.Check(); err != nil {
		return o, usagef("%w", err)
	}
	return o, nil
}

// said is a decision in a table.
func said(d order.Decision) string {
	if !d.Made() {
		return "-"
	}
	return mail.Printable(d.By) + " " + d.At.UTC().Format(time.RFC3339)
}

// about is a rule in a table.
func about(r order.Rule) string {
	text := ""
	for _, f := range []struct{ name, value string }{{"sender", r.Sender}, {"recipient", r.Recipient}, {"domain", r.Domain}, {"tenant", r.Tenant}} {
		if f.value != "" {
			text += fmt.Sprintf(" %s %s", f.name, f.value)
		}
	}
	return mail.Printable(text[min(1, len(text)):])
}
