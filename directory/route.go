package directory

// Route maps recipients to a transport.
type Route struct {
	Name       string
	Domain     string // what it matches: exact in A-labels, ".suffix", "*"
	NullSender bool   // matches mail with a null reverse-path only, and is considered first
	Via        Via
	Queue      string // instead of the tenant's queue; empty: the tenant's
}

type match struct {
	domain     string
	nullSender bool
}

var routeKeys = []key[Route]{
	{"kind", func(_ *Route, v *value) { v.text() }},
	{"name", func(r *Route, v *value) { r.Name = parsed(v, parseName) }},
	{"match", func(r *Route, v *value) {
		var m match
		nested(v, &m, matchKeys)
		r.Domain, r.NullSender = m.domain, m.nullSender
	}},
	{"via", func(r *Route, v *value) { r.Via = parsed(v, ParseVia) }},
	{"queue", func(r *Route, v *value) { r.Queue = parsed(v, parseName) }},
}

var matchKeys = []key[match]{
	{"domain", func(m *match, v *value) { m.domain = parsed(v, parsePattern) }},
	{"null_sender", func(m *match, v *value) { m.nullSender = v.boolean() }},
}

// pick is the key under which a snapshot finds the route.
func (r *Route) pick() string {
	if r.NullSender {
		return "null reverse-path, " + r.Domain
	}
	return r.Domain
}
