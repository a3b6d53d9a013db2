package greylist

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"qstream/mail"
)

// Request is what a policy server is told of a recipient. Texts are hostile.
type Request struct {
	Triple
	ClientName string // by DNS; empty if it has none
	HELO       string
	ESMTP      bool
	Instance   string // the same for all recipients of a message
}

// Bounds of what a policy server may answer.
const (
	maxPolicyReply = 4096
	policyTimeout  = 5 * time.Second
)

// Postgrey asks a server that speaks Postfix's policy delegation protocol,
// postgrey above all, at host:port. DEFER_IF_PERMIT and DEFER are a deferral,
// DUNNO, OK and PREPEND (whose header isn't added) let pass; any other answer,
// and none within 5 s, is a fault, which deferFault decides.
func Postgrey(ctx context.Context, server string, q Request, deferFault bool) (Answer, error) {
	action, err := policy(ctx, server, q)
	fault := Answer{Pass: !deferFault, Fault: true}
	if err != nil {
		return fault, fmt.Errorf("ask policy server %s: %w", server, err)
	}
	word, text, _ := strings.Cut(action, " ")
	switch strings.ToUpper(word) {
	case "DEFER_IF_PERMIT", "DEFER":
		return Answer{Text: text[:min(len(text), 400)]}, nil
	case "DUNNO", "OK", "PREPEND":
		return Answer{Pass: true}, nil
	}
	return fault, fmt.Errorf("ask policy server %s: it answered %q", server, mail.Printable(word))
}

func policy(ctx context.Context, server string, q Request) (action string, err error) {
	ctx, cancel := context.WithTimeout(ctx, policyTimeout)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", server)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(deadline); err != nil {
			return "", err
		}
	}
	if _, err := io.WriteString(c, q.attributes()); err != nil {
		return "", err
	}
	return readAction(c)
}

// attributes are the request, a line each, ended by an empty one.
func (q Request) attributes() string {
	protocol := "SMTP"
	if q.ESMTP {
		protocol = "ESMTP"
	}
	name := q.ClientName
	if name == "" {
		name = "unknown"
	}
	var b strings.Builder
	for _, a := range [][2]string{
		{"request", "smtpd_access_policy"},
		{"protocol_state", "RCPT"},
		{"protocol_name", protocol},
		{"client_address", addressText(q.Client)},
		{"client_name", name},
		{"helo_name", q.HELO},
		{"sender", q.ReversePath},
		{"recipient", q.Recipient},
		{"instance", q.Instance},
	} {
		b.WriteString(a[0] + "=" + mail.Printable(a[1]) + "\n")
	}
	b.WriteByte('\n')
	return b.String()
}

func addressText(a netip.Addr) string { return a.Unmap().WithZone("").String() }

// readAction reads an answer: attributes up to an empty line.
func readAction(r io.Reader) (string, error) {
	in := bufio.NewReader(io.LimitReader(r, maxPolicyReply))
	action, found := "", false
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return "", fmt.Errorf("read answer: %w", err)
		}
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			if !found {
				return "", fmt.Errorf("read answer: no action in it")
			}
			return action, nil
		}
		if name, value, _ := strings.Cut(line, "="); name == "action" && !found {
			action, found = strings.TrimSpace(value), true
		}
	}
}
