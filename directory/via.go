package directory

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"qstream/mail"
)

// Schemes of Via.
const (
	SchemeSMTP    = "smtp"
	SchemeLMTP    = "lmtp"
	SchemeQMTP    = "qmtp"
	SchemeQMTPS   = "qmtps"
	SchemeQMQP    = "qmqp"
	SchemeMaildir = "maildir"
	SchemeDiscard = "discard"
	SchemeError   = "error"
)

// HostMX as a host means: the hosts that the MX records of the recipient's
// domain name.
const HostMX = "mx"

// ports are the default ports of the schemes that have hosts.
var ports = map[string]int{
	SchemeSMTP:  25,
	SchemeLMTP:  24, // RFC 2033 names none; 24 is "any private mail system", as others use it
	SchemeQMTP:  209,
	SchemeQMTPS: 6209,
	SchemeQMQP:  628,
}

// Via is how a route's mail leaves.
type Via struct {
	Scheme string      // smtp, lmtp, qmtp, qmtps, qmqp, maildir, discard, error
	Host   string      // smtp, lmtp, qmtp, qmtps, qmqp: name or IP address without brackets; smtp "mx": look up MX records
	Port   int         // default: smtp 25, lmtp 24, qmtp 209, qmtps 6209, qmqp 628
	Path   string      // maildir: the folder; lmtp: the socket
	Status mail.Status // error: what the recipients are answered
}

// MX reports whether hosts come from MX records.
func (v Via) MX() bool { return v.Scheme == SchemeSMTP && v.Host == HostMX }

// String is v as a document writes it.
func (v Via) String() string {
	switch v.Scheme {
	case SchemeSMTP:
		if v.MX() && v.Port == ports[SchemeSMTP] {
			return "smtp://mx"
		}
		return "smtp://" + v.hostPort()
	case SchemeLMTP:
		if v.Path != "" {
			return "lmtp://" + v.Path
		}
		return "lmtp://" + v.hostPort()
	case SchemeQMTP, SchemeQMTPS, SchemeQMQP:
		return v.Scheme + "://" + v.hostPort()
	case SchemeMaildir:
		return "maildir:" + v.Path
	case SchemeError:
		return "error:" + v.Status.String()
	}
	return v.Scheme + ":"
}

func (v Via) hostPort() string { return net.JoinHostPort(v.Host, strconv.Itoa(v.Port)) }

// destination is the key under which mail for domain waits.
func (v Via) destination(domain string) string {
	switch {
	case v.MX():
		return domain
	case v.Path != "":
		return v.Path
	case ports[v.Scheme] > 0:
		return v.hostPort()
	}
	return v.Scheme
}

// ParseVia reads smtp://host[:port], smtp://mx, lmtp://host[:port],
// lmtp:///socket, qmtp://, qmtps:// and qmqp://host[:port], maildir:PATH, discard: and error:550 5.1.1 text.
func ParseVia(s string) (Via, error) {
	scheme, rest, ok := strings.Cut(s, ":")
	if !ok && s != SchemeDiscard { // YAML wants "discard:" in quotes
		return Via{}, fmt.Errorf("via %q has no scheme: write smtp://host:port, smtp://mx, lmtp://host:port, lmtp:///socket, qmtp://host:port, qmtps://host:port, qmqp://host:port, maildir:PATH, discard: or error:550 5.1.1 text", s)
	}
	switch scheme {
	case SchemeSMTP, SchemeLMTP, SchemeQMTP, SchemeQMTPS, SchemeQMQP:
		return parseHostVia(scheme, s)
	case SchemeMaildir:
		return parseMaildirVia(rest)
	case SchemeDiscard:
		if rest != "" {
			return Via{}, fmt.Errorf("via %q: discard: takes nothing behind it", s)
		}
		return Via{Scheme: scheme}, nil
	case SchemeError:
		status, err := parseStatus(rest)
		return Via{Scheme: scheme, Status: status}, err
	}
	return Via{}, fmt.Errorf("via %q: unknown scheme %q; known are smtp, lmtp, qmtp, qmtps, qmqp, maildir, discard and error", s, scheme)
}

func parseMaildirVia(path string) (Via, error) {
	switch {
	case path == "":
		return Via{}, errors.New("maildir: needs a path, such as maildir:/var/mail/acme")
	case strings.HasPrefix(path, "//") || mail.Printable(path) != path:
		return Via{}, fmt.Errorf("maildir path %q: write maildir:/path or maildir:path", path)
	}
	return Via{Scheme: SchemeMaildir, Path: path}, nil
}

func parseHostVia(scheme, s string) (Via, error) {
	u, err := url.Parse(s)
	if err != nil {
		return Via{}, fmt.Errorf("via %q: %s", s, strings.TrimPrefix(err.Error(), "parse "))
	}
	v := Via{Scheme: scheme, Port: ports[scheme]}
	switch {
	case u.User != nil:
		u.User = nil // a secret is not shown in errors
		return Via{}, fmt.Errorf("via %q: credentials are not supported by this version", u)
	case u.RawQuery != "" || u.Fragment != "":
		return Via{}, fmt.Errorf("via %q: nothing may follow host and port", s)
	case scheme == SchemeLMTP && u.Host == "" && len(u.Path) > 1:
		return Via{Scheme: scheme, Path: u.Path}, nil
	case u.Path != "":
		return Via{}, fmt.Errorf("via %q: a path follows host and port", s)
	case u.Hostname() == "":
		return Via{}, fmt.Errorf("via %q names no host", s)
	}
	if v.Host, err = parseHost(u.Hostname()); err != nil {
		return Via{}, fmt.Errorf("via %q: %w", s, err)
	}
	if v.Host == HostMX && scheme != SchemeSMTP { // RFC 2033 5
		return Via{}, fmt.Errorf("via %q: %s knows no MX records", s, strings.ToUpper(scheme))
	}
	if p := u.Port(); p != "" {
		if v.Port, err = strconv.Atoi(p); err != nil || v.Port < 1 || v.Port > 65535 {
			return Via{}, fmt.Errorf("via %q: port %s is not in 1 to 65535", s, p)
		}
	}
	return v, nil
}

func parseHost(s string) (string, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		return addr.String(), nil
	}
	return parseDomain(s)
}

var statusSyntax = regexp.MustCompile(`^([45])([0-5][0-9]) ([245])\.(\d{1,3})\.(\d{1,3}) (.+)$`)

// parseStatus reads "550 5.1.1 text".
func parseStatus(s string) (mail.Status, error) {
	m := statusSyntax.FindStringSubmatch(s)
	if m == nil {
		return mail.Status{}, fmt.Errorf("%q is no reply: write error:550 5.1.1 and a text (quote it in YAML if it holds a colon)", s)
	}
	if m[1] != m[3] {
		return mail.Status{}, fmt.Errorf("%q: code %s%s and enhanced code %s.%s.%s are of different classes", s, m[1], m[2], m[3], m[4], m[5])
	}
	if mail.Printable(m[6]) != m[6] || len(m[6]) > 400 {
		return mail.Status{}, fmt.Errorf("the text of %q is not printable or longer than 400 octets", s)
	}
	code, err := strconv.Atoi(m[1] + m[2])
	if err != nil {
		return mail.Status{}, err
	}
	return mail.Status{Code: code, Enhanced: m[3] + "." + m[4] + "." + m[5], Text: m[6]}, nil
}
