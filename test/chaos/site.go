package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// hosts is how many next hops the mail of the tenant beta goes to: the sink
// under as many names, so that every partition has mail.
const hosts = 10

// shortLifetime is that of the queue brief: outages last longer.
const shortLifetime = 8 * time.Second

// concurrency is how many attempts one of the queues has open at most, and
// queues how many there are. Their product bounds what a process may have open.
const (
	concurrency = 10
	queues      = 5
)

// documents are the directory: tenants that do different things to the mail
// they get, each with a queue of its own, and the client that gets the DSNs.
// The ports are of the sink behind its proxy, of the sink itself and of DSNs:
// the way to the destination whose mail expires soon has no trouble, so that
// no breaker may keep that mail from being tried.
func documents(sink, direct, reports int) string {
	var b strings.Builder
	queue := func(name, more string) {
		fmt.Fprintf(&b, "kind: queue\nname: %s\nconcurrency: %d\nschedule: {steps: [1s, 2s]}\n%s---\n", name, concurrency, more)
	}
	tenant := func(name, domain string) {
		fmt.Fprintf(&b, "kind: tenant\nname: %s\ndomains: [%s]\nqueue: %s\n---\n", name, domain, name)
	}
	route := func(name, domain, host string, port int) {
		fmt.Fprintf(&b, "kind: route\nname: %s\nmatch: {domain: %s}\nvia: smtp://%s.sink.example:%d\n---\n", name, domain, host, port)
	}
	b.WriteString("kind: engine\nname: measure\ntype: unpack\n---\nkind: scan\nname: measured\nengines: measure\n---\n")
	queue("acme", "scan: measured\n")
	for _, name := range []string{"beta", "tarpit", "client"} {
		queue(name, "")
	}
	queue("brief", fmt.Sprintf("lifetime: %s\n", shortLifetime))
	for name, port := range map[string]int{"acme": sink, "tarpit": sink, "brief": direct, "client": reports} {
		tenant(name, name+".example")
		route(name, name+".example", name, port)
	}
	tenant("beta", ".beta.example")
	for i := range hosts {
		domain := fmt.Sprintf("d%d.beta.example", i)
		route(fmt.Sprintf("beta-%d", i), domain, fmt.Sprintf("mx%d", i), sink)
	}
	return strings.TrimSuffix(b.String(), "---\n")
}

// zone has the names of the sinks.
func zone() string {
	names := []string{"acme", "tarpit", "brief", "client"}
	for i := range hosts {
		names = append(names, fmt.Sprintf("mx%d", i))
	}
	var b strings.Builder
	for _, name := range names {
		fmt.Fprintf(&b, "%s.sink.example. 60 IN A 127.0.0.1\n", name)
	}
	return b.String()
}

// Recipients by what becomes of their mail.
const (
	gone  = "gone@acme.example"     // refused for good: a DSN
	later = "later@d3.beta.example" // deferred for a while
	slow  = "slow@tarpit.example"   // its host takes seconds for each mail
	brief = "user@brief.example"    // expires soon
)

// recipient is whom the nth mail is for.
func recipient(n int) string {
	switch n % 20 {
	case 0:
		return gone
	case 1:
		return later
	case 2:
		return slow
	case 3, 4:
		return brief
	case 5, 6, 7, 8, 9, 10:
		return "user@acme.example"
	}
	return fmt.Sprintf("user@d%d.beta.example", n/2%hosts)
}

// size is how long the nth mail is: some don't fit into a record.
func size(n int) int {
	if n%17 != 0 {
		return 2000
	}
	return 40_000 + rand.New(rand.NewPCG(uint64(n), 0)).IntN(60_000)
}

// reversePath names a mail where its DSN goes, so that it needn't be parsed.
func reversePath(identity string) string { return "bounce+" + identity + "@client.example" }

// returned is the mail that a DSN to an address is about.
func returned(address string) (identity string, ok bool) {
	local, domain, _ := strings.Cut(address, "@")
	identity, ok = strings.CutPrefix(local, "bounce+")
	return identity, ok && domain == "client.example"
}

// number is the n of a mail's identity, as rig.Load makes it.
func number(identity string) int {
	var n int
	_, _ = fmt.Sscanf(identity, "load-%d-", &n)
	return n
}
