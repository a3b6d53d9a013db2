// Package peer runs the mail servers that the benches compare: qstream, as the
// built binary with every role in one `up`, on the embedded broker or on Apache
// Kafka; and Postfix from its Debian package, with its default queue settings.
// Each relays the same Site, has an empty queue at its start, and is measured
// by a control group of its own.
//
// Guarantee: CPU counts every process of a peer from its start, also those
// that have ended; the kernel's own threads are in none.
// Guarantee: Stop leaves no process and no file behind.
//
// It hands no mail in and takes none: source and sink are the benches'.
// Control groups and Postfix need root.
package peer

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// Peer is one mail server under measurement. Its methods are not safe for
// concurrent use, but for Usage.
type Peer interface {
	// Name is what tables call it: "postfix", "qstream embedded".
	Name() string
	// Start starts it with an empty queue and returns once it greets.
	Start(ctx context.Context) error
	// Stop ends it and removes what it had; one that doesn't run is left alone.
	Stop() error
	// Addr is where it takes SMTP, host:port; known from Start on.
	Addr() string
	// Usage is what it has used since its start.
	Usage() (Usage, error)
	// Log is the end of what it has logged, for messages of failure.
	Log() string
}

// Usage is what a peer took of the machine. What Kafka brokers took stands
// apart and is zero without them.
type Usage struct {
	CPU, BrokerCPU time.Duration // user and system
	// Memory is the highest sum of the processes' proportional set sizes in
	// bytes, sampled twice a second.
	Memory, BrokerMemory int64
}

// Total is the CPU of server and broker.
func (u Usage) Total() time.Duration { return u.CPU + u.BrokerCPU }

// Since is the CPU used between an earlier look and this one; the memory stays.
func (u Usage) Since(earlier Usage) Usage {
	u.CPU -= earlier.CPU
	u.BrokerCPU -= earlier.BrokerCPU
	return u
}

// Site is what a peer relays. Tenants mean nothing to Postfix.
type Site struct {
	Tenants []Tenant
	// Scan leads qstream's mail through the scanning stage, by a policy that asks
	// no engine.
	Scan bool
}

// Tenant is a customer and the domains that mail is taken for.
type Tenant struct {
	Name    string
	Queue   string // shared with other tenants; "": its own
	Clamd   string // host:port of the one that scans qstream's mail, every mail anew; "": none
	Domains []Domain
}

// Domain is where mail for a domain goes.
type Domain struct {
	Name string // "acme.example", or with a leading dot all its subdomains
	Via  string // host:port, or "mx" to ask the name service
}

// All is a site of one tenant without a queue of its own whose domains all go
// to one address.
func All(via string, domains ...string) Site {
	t := Tenant{Name: "acme"}
	for _, d := range domains {
		t.Domains = append(t.Domains, Domain{d, via})
	}
	return Site{Tenants: []Tenant{t}}
}

// documents are the site as qstream's directory.
func (s Site) documents() string {
	var b strings.Builder
	b.WriteString("kind: site\nme: mx.hub.example\n")
	routes, queues := 0, map[string]bool{}
	if s.Scan {
		b.WriteString("---\nkind: scan\nname: nobody\nengines: []\n")
	}
	for _, t := range s.Tenants {
		if t.Queue != "" && !queues[t.Queue] {
			queues[t.Queue] = true
			fmt.Fprintf(&b, "---\nkind: queue\nname: %s\n", t.Queue)
		}
		names := make([]string, len(t.Domains))
		for i, d := range t.Domains {
			names[i] = d.Name
		}
		fmt.Fprintf(&b, "---\nkind: tenant\nname: %s\ndomains: [%s]\n", t.Name, strings.Join(names, ", "))
		if t.Queue != "" {
			fmt.Fprintf(&b, "queue: %s\n", t.Queue)
		}
		if s.Scan {
			b.WriteString("scan: nobody\n")
		}
		if t.Clamd != "" {
			fmt.Fprintf(&b, "scan: %[1]s\n---\nkind: scan\nname: %[1]s\nengines: [%[1]s]\n---\nkind: engine\nname: %[1]s\ntype: clamd\naddress: tcp://%[2]s\nkeep: 0s\n", t.Name, t.Clamd)
		}
		for _, d := range t.Domains {
			routes++
			fmt.Fprintf(&b, "---\nkind: route\nname: route-%d\nmatch: {domain: %s}\nvia: smtp://%s\n", routes, d.Name, d.Via)
		}
	}
	return b.String()
}

// transports are the site as Postfix's transport table.
func (s Site) transports() string {
	var b strings.Builder
	for _, t := range s.Tenants {
		for _, d := range t.Domains {
			hop := ""
			if d.Via != "mx" {
				host, port, _ := net.SplitHostPort(d.Via)
				hop = "[" + host + "]:" + port
			}
			fmt.Fprintf(&b, "%s smtp:%s\n", d.Name, hop)
		}
	}
	return b.String()
}

// workDir is a new folder that processes without rights may enter.
func workDir(name string) (string, error) {
	dir, err := os.MkdirTemp("", "qstream-bench-"+name+"-")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
}

// tail is the end of a file.
func tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-4000):])
}
