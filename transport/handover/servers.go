package handover

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// port is QMQP's, by custom.
const port = "628"

// ParseServers reads control/qmqpservers: an address in each line, IPv4, IPv6
// or a name, with a port behind a colon if it isn't 628 (IPv6 then in
// brackets). # begins a comment. The result is fit for Config.Servers.
func ParseServers(text string) ([]string, error) {
	var all []string
	for i, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		for _, word := range strings.FieldsFunc(line, func(c rune) bool { return c == ' ' || c == '\t' || c == '\r' || c == ',' }) {
			s, err := parseServer(word)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", i+1, err)
			}
			all = append(all, s)
		}
	}
	return all, nil
}

func parseServer(s string) (string, error) {
	bare := s
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		bare = s[1 : len(s)-1]
	}
	if ip, err := netip.ParseAddr(bare); err == nil {
		return net.JoinHostPort(ip.String(), port), nil
	}
	host, p := s, port
	if strings.Contains(s, ":") {
		var err error
		if host, p, err = net.SplitHostPort(s); err != nil {
			return "", fmt.Errorf("%q is no address of a server", s)
		}
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil || n == 0 || host == "" || strings.ContainsAny(host, "/@[]\x00") {
		return "", fmt.Errorf("%q is no address of a server", s)
	}
	return net.JoinHostPort(host, p), nil
}
