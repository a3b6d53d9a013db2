// Package directory holds tenants, queues, routes, rules for connections and the
// site's own settings
// as one immutable, numbered snapshot that every role follows, and the
// decisions that follow from it: whose mail it is, which queue it goes to, by
// which route, when it is tried again, when it expires.
//
// Guarantee: a snapshot never changes; a decision is a function of a snapshot
// and a question alone, so that its number explains it later.
// Guarantee: an apply is published whole or not at all, and only if the whole
// directory is valid with it; of two appliers with one base exactly one wins,
// and the other is told.
// Guarantee: what a document keeps secret leaves this package only as the hash
// that passwords are checked by; shown documents and errors hide it.
// Guarantee: what can't be read on the topic changes nothing and stops nobody.
//
// The right to relay comes from tenants' domains and networks, never from a
// route; refusing is the edge's matter. Process settings are not in here.
package directory

import (
	"strings"

	"github.com/goccy/go-yaml"
)

// Kinds of documents.
const (
	KindSite       = "site"
	KindQueue      = "queue"
	KindTenant     = "tenant"
	KindRoute      = "route"
	KindPolicy     = "policy"
	KindRules      = "rules"
	KindCredential = "credential"
	KindEngine     = "engine"
	KindScan       = "scan"
	KindArchive    = "archive"
	KindWebhook    = "webhook"
)

// kinds in the order in which documents are shown.
var kinds = []string{KindSite, KindQueue, KindTenant, KindRoute, KindPolicy, KindRules, KindCredential, KindEngine, KindScan, KindArchive, KindWebhook}

// Default is the name of the tenant and of the queue that always exist,
// whether or not a document says so: for mail that no tenant owns or sent.
const Default = "default"

// Ref names a document.
type Ref struct{ Kind, Name string }

// String is "queue/acme".
func (r Ref) String() string { return r.Kind + "/" + r.Name }

// ParseRef reads "queue/acme".
func ParseRef(s string) (r Ref, ok bool) {
	kind, name, ok := strings.Cut(s, "/")
	if !ok || name == "" || kindOrder(kind) == len(kinds) {
		return Ref{}, false
	}
	return Ref{Kind: kind, Name: name}, true
}

func kindOrder(kind string) int {
	for i, k := range kinds {
		if k == kind {
			return i
		}
	}
	return len(kinds)
}

func compareRefs(a, b Ref) int {
	if d := kindOrder(a.Kind) - kindOrder(b.Kind); d != 0 {
		return d
	}
	return strings.Compare(a.Name, b.Name)
}

// Document is one parsed document.
type Document struct {
	Ref
	// YAML is the document in canonical form: fixed order of keys, values as
	// written, no comments, secrets hidden.
	YAML string

	text    string            // YAML with the secrets
	secrets map[string]string // by their keys
	masked  map[string]string // what stands for hidden ones, by their keys
	canon   yaml.MapSlice     // only where something is masked

	file  string
	line  int
	lines map[string]int // line of each key, "match.domain"
	value any            // *Queue, *Tenant, *Route, *Site, *Policy, *Rules, *Credential, *Engine, *ScanPolicy, *Archive or *Webhook
}

// at is an error at a key of the document, or at its first line.
func (d *Document) at(key, reason string) *Error {
	line, ok := d.lines[key]
	if !ok {
		line = d.line
	}
	return &Error{File: d.file, Line: line, Reason: d.Ref.String() + ": " + reason}
}
