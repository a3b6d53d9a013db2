package qmail

import (
	"net/netip"
	"strconv"
	"strings"
)

// SenderRules say which clients may use which addresses as the reverse-path
// (mailfromrules, MAV). They are immutable.
type SenderRules struct {
	rules map[string][]string // items by client; no items: any address
}

// Submitter is the client that rules are looked up for.
type Submitter struct {
	IP   netip.Addr
	Name string // its reverse name; empty if it has none
	User string // who authenticated; empty: nobody
}

// ParseSenderRules reads mailfromrules: "client&item,item", a rule a line. The
// client is a user, user@IP, user@=name, an IP, a prefix of one ("192.0.2.",
// "2001:db8:"), a range ("192.0.2.1-9"), =name, =.suffix or =. An item is an
// address, "@domain", or either behind "-" to refuse it; no item admits any
// address. Errors are LineErrors.
func ParseSenderRules(text string) (*SenderRules, error) {
	lines, err := controlLines(text)
	if err != nil {
		return nil, err
	}
	s := &SenderRules{rules: map[string][]string{}}
	for _, l := range lines {
		client, list, ok := strings.Cut(strings.ToLower(l.text), "&")
		if !ok || client == "" {
			return nil, &LineError{l.number, "wants client&address,address"}
		}
		items, reason := senderItems(list)
		if reason != "" {
			return nil, &LineError{l.number, reason}
		}
		clients, reason := expandClient(client)
		if reason != "" {
			return nil, &LineError{l.number, reason}
		}
		for _, c := range clients {
			if _, ok := s.rules[c]; !ok { // as in a cdb, the first one counts
				s.rules[c] = items
			}
		}
	}
	return s, nil
}

func senderItems(list string) (items []string, reason string) {
	if list == "" {
		return nil, ""
	}
	for _, item := range strings.Split(list, ",") {
		if len(item) < 3 || !strings.Contains(item, "@") || strings.ContainsAny(item, " \t") {
			return nil, strconv.Quote(item) + " is neither an address nor @domain"
		}
		items = append(items, item)
	}
	return items, ""
}

// expandClient writes a range of IPv4 addresses out.
func expandClient(client string) (all []string, reason string) {
	if strings.ContainsAny(client, "=@:") || strings.Trim(client, "0123456789.-") != "" {
		return []string{client}, ""
	}
	before, after, ok := strings.Cut(client, "-")
	if !ok {
		if !strings.HasSuffix(client, ".") && strings.Count(client, ".") < 3 {
			return nil, strconv.Quote(client) + " is no address; a prefix ends with a dot"
		}
		return []string{client}, ""
	}
	left := before[:strings.LastIndexByte(before, '.')+1]
	high, right, dot := strings.Cut(after, ".")
	if dot {
		right = "." + right
	}
	from, err1 := strconv.Atoi(before[len(left):])
	to, err2 := strconv.Atoi(high)
	if err1 != nil || err2 != nil || from > to || to > 255 {
		return nil, strconv.Quote(client) + " is no range of addresses"
	}
	for n := from; n <= to; n++ {
		all = append(all, left+strconv.Itoa(n)+right)
	}
	return all, ""
}

// Admits reports whether a client may use an address. The null path is not
// asked about. The clients' keys are tried from the most special to the most
// general; the first rule whose items hold the address decides.
func (s *SenderRules) Admits(c Submitter, address string) bool {
	address = strings.ToLower(address)
	for _, key := range c.keys() {
		items, ok := s.rules[key]
		if !ok {
			continue
		}
		if listed, admitted := judge(items, address); listed {
			return admitted
		}
	}
	return false
}

// judge looks an address up in the items of a rule; what is refused there
// counts before what is admitted.
func judge(items []string, address string) (listed, admitted bool) {
	if len(items) == 0 {
		return true, true
	}
	for _, item := range items {
		item, refused := strings.CutPrefix(item, "-")
		if item != address && (item[0] != '@' || !strings.HasSuffix(address, item)) {
			continue
		}
		if refused {
			return true, false
		}
		listed, admitted = true, true
	}
	return listed, admitted
}

// keys are what rules are looked up by, in order.
func (c Submitter) keys() []string {
	ip := c.IP.Unmap().WithZone("").String()
	name := strings.ToLower(c.Name)
	var keys []string
	if user := strings.ToLower(c.User); user != "" {
		keys = append(keys, user, user+"@"+ip)
		if name != "" {
			keys = append(keys, user+"@="+name)
		}
	}
	keys = append(keys, ip)
	if name != "" {
		keys = append(keys, "="+name)
	}
	for i := len(ip) - 1; i >= 0; i-- {
		if ip[i] == ':' || ip[i] == '.' {
			keys = append(keys, ip[:i+1])
		}
	}
	if name == "" {
		return keys
	}
	for i := range len(name) {
		if name[i] == '.' {
			keys = append(keys, "="+name[i:])
		}
	}
	return append(keys, "=")
}
