package directory

import "fmt"

// checker fills a snapshot and finds what is wrong with the documents as a
// whole: names given twice, domains with two owners, references to nothing.
type checker struct {
	*Snapshot
	claimed map[string]*Document // by what may be claimed once
	errs    Errors
}

func (c *checker) fail(d *Document, key, format string, args ...any) {
	c.errs = append(c.errs, d.at(key, fmt.Sprintf(format, args...)))
}

// standing tells a document that was in force before from one of a file: only
// the latter has lines.
func (d *Document) standing() bool { return d.lines == nil }

// claim notes that d has thing for itself; false if another has it.
func (c *checker) claim(d *Document, key, thing string) bool {
	other := c.claimed[thing]
	if other == nil {
		c.claimed[thing] = d
		return true
	}
	if d.standing() && !other.standing() {
		d, other = other, d // who comes is at fault, not who was there
	}
	place := ""
	if other.file != "" {
		place = fmt.Sprintf(" (%s:%d)", other.file, other.line)
	}
	if other == d {
		c.fail(d, key, "%s is named twice", thing)
	} else {
		c.fail(d, key, "%s already belongs to %s%s", thing, other.Ref, place)
	}
	return false
}

// add puts a document where it is looked up. Documents are shared between
// snapshots, so what a snapshot completes is copied.
func (c *checker) add(d *Document) {
	if !c.claim(d, "name", "the name "+d.Ref.String()) {
		return
	}
	switch v := d.value.(type) {
	case *Site:
		c.site = *v
	case *Queue:
		q := *v
		c.queues[q.Name] = &q
		if q.Number > 0 {
			c.claim(d, "number", fmt.Sprintf("queue number %d", q.Number))
		}
	case *Tenant:
		c.addTenant(d, v)
	case *Route:
		c.addRoute(d, v)
	case *Credential:
		c.addCredential(d, v)
	case *Policy:
		c.addPolicy(d, v)
	case *Rules:
		c.addRules(d, v)
	case *Engine:
		c.engines[v.Name] = v
	case *ScanPolicy:
		c.scans[v.Name] = v
	case *Archive:
		c.archives[v.Name] = v
	case *Webhook:
		c.addWebhook(d, v)
	}
}

func (c *checker) addTenant(d *Document, t *Tenant) {
	if t.Events.Topic { // when that began is the snapshot's to say
		own := *t
		t = &own
	}
	c.tenants[t.Name] = t
	c.quotas = c.quotas || t.Quota != nil
	for i, domain := range t.Domains {
		if c.claim(d, element("domains", i), "domain "+domain) {
			c.owners[domain] = t
		}
	}
	for i, network := range t.Networks {
		if c.claim(d, element("networks", i), "network "+network.String()) {
			c.networks[network] = t
		}
	}
}

// addRules refuses what QMQP can't be guarded by: whom a rule allows there may
// send to anybody.
func (c *checker) addRules(d *Document, r *Rules) {
	c.rules[r.Service] = r
	if r.Service != ServiceQMQP {
		return
	}
	for _, rule := range r.Rules.All() {
		if !rule.Deny && everybody(rule.Pattern) {
			c.fail(d, "rules", "line %d of the text allows everybody, who may relay by QMQP: that is an open relay", rule.Line)
		}
	}
}

func element(key string, i int) string { return fmt.Sprintf("%s[%d]", key, i) }

func (c *checker) addRoute(d *Document, r *Route) {
	if !c.claim(d, "match.domain", "the match of "+r.pick()) {
		return
	}
	c.named[r.Name] = r
	if r.NullSender {
		c.nullRoutes[r.Domain] = r
	} else {
		c.routes[r.Domain] = r
	}
}

// addImplicit adds the default tenant and queue, and a queue of its own name
// for each tenant that has none.
func (c *checker) addImplicit() {
	if c.tenants[Default] == nil {
		c.tenants[Default] = newTenant(Default)
	}
	if c.queues[Default] == nil {
		q := newQueue(Default)
		q.Role = RoleInternet
		c.queues[Default] = q
	}
	for _, t := range c.tenants {
		if t.Queue == t.Name && c.queues[t.Queue] == nil {
			c.queues[t.Queue] = newQueue(t.Queue)
		}
	}
}

func (c *checker) references() {
	for i := range c.docs {
		d := &c.docs[i]
		switch v := d.value.(type) {
		case *Tenant:
			if c.queues[v.Queue] == nil {
				c.fail(d, "queue", "there is no queue %q", v.Queue)
			}
			c.scanNamed(d, v.Scan)
			if q := c.queues[v.Queue]; q != nil {
				c.shadowNamed(d, v.Shadow, v.Scan, scanOf(v, q))
			}
			c.openRelay(d, c.tenants[v.Name]) // a copy may stand there
		case *Queue:
			c.scanNamed(d, v.Scan)
			c.shadowNamed(d, v.Shadow, v.Scan, v.Scan)
		case *ScanPolicy:
			c.checkScan(d, v)
		case *Rules:
			c.sessionScans(d, v)
		case *Route:
			if v.Queue != "" && c.queues[v.Queue] == nil {
				c.fail(d, "queue", "there is no queue %q", v.Queue)
			}
		case *Archive:
			c.checkArchive(d, v)
		case *Credential:
			if c.tenants[v.Tenant] == nil {
				c.fail(d, "tenant", "there is no tenant %q", v.Tenant)
			}
		case *Webhook:
			if v.Tenant != "" && c.tenants[v.Tenant] == nil {
				c.fail(d, "tenant", "there is no tenant %q", v.Tenant)
			}
			if v.Queue != "" && c.queues[v.Queue] == nil {
				c.fail(d, "queue", "there is no queue %q", v.Queue)
			}
		case *Policy:
			if v.Tenant != "" && c.tenants[v.Tenant] == nil {
				c.fail(d, "match.tenant", "there is no tenant %q", v.Tenant)
			}
		}
	}
}

func (c *checker) scanNamed(d *Document, name string) {
	if name != "" && c.scans[name] == nil {
		c.fail(d, "scan", "there is no scan policy %q", name)
	}
}

// openRelay refuses a tenant that owns every domain while a route hands every
// domain to its MX: strangers could send through to anybody.
func (c *checker) openRelay(d *Document, t *Tenant) {
	if c.owners["*"] != t {
		return
	}
	for _, routes := range []patterns[*Route]{c.routes, c.nullRoutes} {
		if r := routes["*"]; r != nil && r.Via.MX() {
			c.fail(d, "domains", `owns "*" while route %s sends "*" to MX hosts: that is an open relay; list domains, or networks that may relay`, r.Name)
		}
	}
}
