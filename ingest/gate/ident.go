package gate

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"qstream/mail"
)

// maxIdent bounds an answer (RFC 1413 6: 1000 octets at most).
const maxIdent = 1000

// ident asks the client's host who connected, as tcpserver -r does; empty if
// it doesn't say so in time. It says what it likes: a rule with info@ believes
// it.
func (g *Gate) ident(ctx context.Context, c *Client) string {
	ctx, done := g.lookup(ctx, g.cfg.Wait, "ident")
	defer done()
	user, err := g.askIdent(ctx, c)
	if err != nil {
		g.metrics.failures.WithLabelValues("ident").Inc()
		g.deps.Log.Debug("lookup", "stage", "ingest", "question", "ident", "err", mail.Printable(err.Error()))
	}
	return user
}

func (g *Gate) askIdent(ctx context.Context, c *Client) (string, error) {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(c.Local.Addr(), 0))}
	nc, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(c.Addr.Addr(), uint16(g.cfg.Ident)).String())
	if err != nil {
		return "", err
	}
	defer nc.Close()
	if end, ok := ctx.Deadline(); ok {
		if err := nc.SetDeadline(end); err != nil {
			return "", err
		}
	}
	defer context.AfterFunc(ctx, func() { nc.Close() })()
	if _, err := fmt.Fprintf(nc, "%d, %d\r\n", c.Addr.Port(), c.Local.Port()); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(io.LimitReader(nc, maxIdent)).ReadString('\n')
	if err != nil {
		return "", err
	}
	return parseIdent(line, c.Addr.Port(), c.Local.Port()), nil
}

// parseIdent reads "6193, 23 : USERID : UNIX : joe"; empty: it names nobody.
func parseIdent(line string, theirs, ours uint16) string {
	parts := strings.SplitN(strings.TrimRight(line, "\r\n"), ":", 4)
	if len(parts) != 4 || !strings.EqualFold(strings.TrimSpace(parts[1]), "USERID") {
		return ""
	}
	a, b, _ := strings.Cut(parts[0], ",")
	if strings.TrimSpace(a) != strconv.Itoa(int(theirs)) || strings.TrimSpace(b) != strconv.Itoa(int(ours)) {
		return ""
	}
	user := strings.TrimSpace(parts[3])
	if mail.Printable(user) != user {
		return ""
	}
	return user
}
