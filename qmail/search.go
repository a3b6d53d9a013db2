package qmail

import (
	"net/netip"
	"strings"
)

// Find is the rule for a client; without one it is allowed as it is (false).
// The first of these that the text has counts:
//
//	info@ip
//	info@=host
//	ip
//	=host
//	shorter and shorter starts of an IPv4 address that end with a dot
//	networks that hold ip, the longest prefix first
//	shorter and shorter ends of host that start with a dot, behind =
//	=, if there is a host
//	the empty address
func (rs *Rules) Find(c Client) (Rule, bool) {
	i, ok := rs.find(c.normal())
	if !ok {
		return Rule{}, false
	}
	return rs.rules[i], true
}

// All are the rules in the order of the text. Don't change them.
func (rs *Rules) All() []Rule { return rs.rules }

// NeedsInfo reports whether any rule is for an info@.
func (rs *Rules) NeedsInfo() bool { return rs.byInfo || rs.infoIPs }

// NeedsName reports whether Find could answer otherwise if it knew the name
// of a client, whose Name is not looked at.
func (rs *Rules) NeedsName(c Client) bool {
	c.Name = ""
	c = c.normal()
	if rs.hit(c.infoIP()) {
		return false
	}
	if rs.byInfo && c.Info != "" {
		return true
	}
	if rs.hit(c.IP.String()) {
		return false
	}
	if rs.hosts {
		return true
	}
	if _, ok := rs.byAddress(c.IP); ok {
		return false
	}
	return rs.suffix
}

func (c Client) normal() Client {
	c.IP = c.IP.Unmap().WithZone("")
	c.Name = strings.ToLower(strings.TrimSuffix(c.Name, "."))
	return c
}

// infoIP is the first address that is searched for; one that no rule has if
// there is no info.
func (c Client) infoIP() string {
	if c.Info == "" {
		return "\x00"
	}
	return c.Info + "@" + c.IP.String()
}

func (rs *Rules) hit(key string) bool {
	_, ok := rs.keys[key]
	return ok
}

func (rs *Rules) find(c Client) (int, bool) {
	if i, ok := rs.keys[c.infoIP()]; ok {
		return i, true
	}
	if c.Info != "" && c.Name != "" {
		if i, ok := rs.keys[c.Info+"@="+c.Name]; ok {
			return i, true
		}
	}
	if i, ok := rs.keys[c.IP.String()]; ok {
		return i, true
	}
	if c.Name != "" {
		if i, ok := rs.keys["="+c.Name]; ok {
			return i, true
		}
	}
	if i, ok := rs.byAddress(c.IP); ok {
		return i, true
	}
	if i, ok := rs.byEnd(c.Name); ok {
		return i, true
	}
	i, ok := rs.keys[""]
	return i, ok
}

// byAddress searches parts of addresses and networks.
func (rs *Rules) byAddress(ip netip.Addr) (int, bool) {
	if ip.Is4() {
		s := ip.String()
		for n := strings.LastIndexByte(s, '.'); n >= 0; n = strings.LastIndexByte(s[:n], '.') {
			if i, ok := rs.keys[s[:n+1]]; ok {
				return i, true
			}
		}
	}
	for _, bits := range rs.bits {
		p, err := ip.Prefix(bits)
		if err != nil {
			continue // longer than an IPv4 address
		}
		if i, ok := rs.nets[p]; ok {
			return i, true
		}
	}
	return 0, false
}

// byEnd searches ends of host names, then the rule for any name.
func (rs *Rules) byEnd(name string) (int, bool) {
	if name == "" {
		return 0, false
	}
	for n := range len(name) {
		if name[n] != '.' {
			continue
		}
		if i, ok := rs.keys["="+name[n:]]; ok {
			return i, true
		}
	}
	i, ok := rs.keys["="]
	return i, ok
}
