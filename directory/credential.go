package directory

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/text/secure/precis"

	"qstream/directory/password"
	"qstream/mail"
)

// Credential is a user who may submit mail: what proves who it is, and what
// it may do then.
type Credential struct {
	User   string // in the form that NormalUser gives
	Tenant string // whose mail it submits
	// Password and SCRAM are what a password is checked by. Without both only
	// a certificate or a program of the edge can vouch for the user.
	Password *password.Hash
	SCRAM    *password.Verifier
	// Certificates are client certificates that stand for the user: "sha256:"
	// and the certificate's fingerprint in hex, or a mail address or host name
	// that a verified one must hold.
	Certificates []string
	// Senders are the reverse-paths that it may use: addresses, "@domain",
	// "@.suffix", or "tenant" for all domains of its tenant. Without any, its
	// name if that is an address.
	Senders       []string
	Networks      []netip.Prefix // where it may sign in from; empty: anywhere
	Disabled      bool
	MaxRecipients int    // of a message; 0: the edge's limit
	MaxSize       int64  // octets of a message; 0: the edge's limit
	Quota         *Quota // nil: nothing is counted
	Events        bool   // it may read all events of its tenant
}

const (
	maxUser         = 254 // octets of a user's name
	maxCertificates = 100
	maxSenders      = 10_000
	// sendersTenant stands for all domains of the tenant.
	sendersTenant = "tenant"
	fingerprint   = "sha256:"
)

var credentialKeys = []key[Credential]{
	{"kind", func(_ *Credential, v *value) { v.text() }},
	{"name", func(c *Credential, v *value) { c.User = parsed(v, parseUser) }},
	{"tenant", func(c *Credential, v *value) { c.Tenant = parsed(v, parseName) }},
	{"password", func(c *Credential, v *value) { c.Password = secret(v, password.Parse) }},
	{"scram_sha_256", func(c *Credential, v *value) { c.SCRAM = secret(v, password.ParseVerifier) }},
	{"certificates", func(c *Credential, v *value) {
		v.list(maxCertificates, func(e *value) { c.Certificates = append(c.Certificates, parsed(e, parseCertificate)) })
	}},
	{"senders", func(c *Credential, v *value) {
		v.list(maxSenders, func(e *value) { c.Senders = append(c.Senders, parsed(e, parseSender)) })
	}},
	{"networks", func(c *Credential, v *value) {
		v.list(maxNetworks, func(e *value) { c.Networks = append(c.Networks, parsed(e, parseAnyNetwork)) })
	}},
	{"disabled", func(c *Credential, v *value) { c.Disabled = v.boolean() }},
	{"max_recipients", func(c *Credential, v *value) { c.MaxRecipients = int(v.integer(1, 1_000_000)) }},
	{"max_size", func(c *Credential, v *value) { c.MaxSize = v.integer(1, 1<<40) }},
	{"quota", func(c *Credential, v *value) { c.Quota = &Quota{Action: QuotaDefer}; nested(v, c.Quota, userQuotaKeys) }},
	{"events", func(c *Credential, v *value) { c.Events = v.boolean() }},
}

// NormalUser is the form in which users' names are compared: lower case, as
// RFC 8265 (UsernameCaseMapped) has it.
func NormalUser(name string) (string, error) {
	if name == "" || len(name) > maxUser {
		return "", fmt.Errorf("a user's name has 1 to %d octets", maxUser)
	}
	n, err := precis.UsernameCaseMapped.String(name)
	if err != nil || n == "" {
		return "", fmt.Errorf("%q can't be a user's name", mail.Printable(name))
	}
	return n, nil
}

func parseUser(s string) (string, error) {
	n, err := NormalUser(s)
	if err == nil && n != s {
		return "", fmt.Errorf("%q is compared in lower case: write %q", s, n)
	}
	return n, err
}

func parseCertificate(s string) (string, error) {
	if digits, ok := strings.CutPrefix(s, fingerprint); ok {
		raw, err := hex.DecodeString(strings.ReplaceAll(digits, ":", ""))
		if err != nil || len(raw) != sha256.Size {
			return "", fmt.Errorf("%q is no fingerprint: sha256: and 64 hexadecimal digits", s)
		}
		return fingerprint + hex.EncodeToString(raw), nil
	}
	if strings.Contains(s, "@") {
		address, err := parseMailbox(s)
		return normalAddress(address), err
	}
	return parseDomain(s)
}

func parseSender(s string) (string, error) {
	domain, whole := strings.CutPrefix(s, "@")
	switch {
	case s == sendersTenant:
		return s, nil
	case whole && domain == "*":
		return "", errors.New(`"@*" would let it use everybody's addresses: name domains`)
	case whole:
		d, err := parsePattern(domain)
		return "@" + d, err
	}
	address, err := parseMailbox(s)
	return normalAddress(address), err
}

// normalAddress is how senders are compared: without case.
func normalAddress(address string) string {
	i := strings.LastIndexByte(address, '@')
	return strings.ToLower(address[:i+1]) + mail.NormalDomain(address[i+1:])
}

// parseAnyNetwork reads a prefix of any width, or an address.
func parseAnyNetwork(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err == nil && p.Masked() == p && !p.Addr().Is4In6() {
		return p, nil
	}
	return parseNetwork(s)
}

// Admits reports whether the user may sign in from an address now.
func (c *Credential) Admits(addr netip.Addr) bool {
	if c.Disabled {
		return false
	}
	addr = addr.Unmap().WithZone("")
	for _, p := range c.Networks {
		if p.Contains(addr) {
			return true
		}
	}
	return len(c.Networks) == 0
}

// MaySend reports whether a user may use a reverse-path. The null one
// everybody may: reports on mail have it.
func (s *Snapshot) MaySend(c *Credential, reversePath string) bool {
	if reversePath == "" {
		return true
	}
	address := normalAddress(reversePath)
	if len(c.Senders) == 0 {
		return address == normalAddress(c.User)
	}
	domain := mail.Domain(address)
	for _, sender := range c.Senders {
		pattern, whole := strings.CutPrefix(sender, "@")
		switch {
		case sender == sendersTenant:
			if t := s.Owner(domain); t != nil && t.Name == c.Tenant && domain != "" {
				return true
			}
		case whole:
			if _, _, ok := (patterns[bool]{pattern: true}).find(domain); ok && domain != "" {
				return true
			}
		case sender == address:
			return true
		}
	}
	return false
}

// Credential finds a user by the name that NormalUser gives; nil if none.
func (s *Snapshot) Credential(user string) *Credential { return s.credentials[user] }

// Submitter is the credential that a user who signed in submits by; nil if
// there is none. Users without one whom a program of the edge vouches for
// belong to the tenant that owns their name's domain, and send as themselves.
func (s *Snapshot) Submitter(user string, vouched bool) *Credential {
	if u := s.credentials[user]; u != nil || !vouched {
		return u
	}
	u := &Credential{User: user, Tenant: Default}
	if domain := mail.Domain(user); domain != "" {
		if t := s.Owner(domain); t != nil {
			u.Tenant = t.Name
		}
	}
	return u
}

// CredentialOf finds the user of a client certificate by its fingerprint
// ("sha256:" and hex) or one of its names; nil if none.
func (s *Snapshot) CredentialOf(certificate string) *Credential {
	if strings.Contains(certificate, "@") {
		certificate = normalAddress(certificate)
	}
	return s.certificates[certificate]
}

// AllSCRAM reports whether every user with a password can sign in by
// SCRAM-SHA-256, and there is one.
func (s *Snapshot) AllSCRAM() bool { return s.allSCRAM }

// Decoy is a key for answers about users that don't exist, so that they look
// like those about others. It is the same on every edge as long as the first
// user's password is.
func (s *Snapshot) Decoy() []byte { return s.decoy }

func (c *checker) addCredential(d *Document, u *Credential) {
	c.credentials[u.User] = u
	c.quotas = c.quotas || u.Quota != nil
	for i, name := range u.Certificates {
		if c.claim(d, element("certificates", i), "certificate "+name) {
			c.certificates[name] = u
		}
	}
	for _, key := range []string{"password", "scram_sha_256"} {
		if d.masked[key] != "" {
			c.fail(d, key, "%s is hidden: give the value itself, or apply where the same one is in force", key)
		}
	}
}

// finishCredentials looks at all users together.
func (s *Snapshot) finishCredentials() {
	with, without := 0, 0
	for i := range s.docs {
		d := &s.docs[i]
		u, ok := d.value.(*Credential)
		if !ok {
			continue
		}
		switch {
		case u.SCRAM != nil:
			with++
		case u.Password != nil:
			without++
		}
		if s.decoy == nil && len(d.secrets) > 0 {
			sum := sha256.Sum256([]byte("decoy " + d.secrets["scram_sha_256"] + d.secrets["password"]))
			s.decoy = sum[:]
		}
	}
	s.allSCRAM = with > 0 && without == 0
}
