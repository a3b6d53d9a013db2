package directory

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
)

// Webhook is an endpoint of somebody's that events are posted to.
type Webhook struct {
	Name string
	// Tenant is whose events it gets; All says that it gets everybody's.
	Tenant string
	All    bool
	URL    *url.URL
	// Secrets sign what is posted, each by a signature of its own: the
	// current one, and the one before it while receivers still have that.
	Secrets []string
	// Events are the types that are posted; empty: all.
	Events map[pb.EventType]bool
	// Recipients are addresses, "@domain" and "@.suffix" that events must
	// name; empty: any. Other recipients of an event are left out.
	Recipients  []string
	Queue       string        // of the events; empty: any
	Concurrency int           // posts at once, of each tapper process; default 8
	Timeout     time.Duration // of a post; default 10 s
	GiveUp      GiveUp
	// Private lets the URL be http, and lead to addresses that are not of
	// the Internet: this host, or a network of the site.
	Private bool
	// Since is when it came to be: what happened before isn't posted.
	Since time.Time
}

// GiveUp is when an event is posted no longer, and what becomes of it.
type GiveUp struct {
	After time.Duration // from the first post; default 3 d
	Then  string        // GiveUpDead or GiveUpPause
}

// What becomes of an event that an endpoint doesn't take.
const (
	GiveUpDead  = "deadletter" // it is put aside, and the next is posted
	GiveUpPause = "pause"      // the webhook stands still until it is resumed
)

func newWebhook() *Webhook {
	return &Webhook{Concurrency: 8, Timeout: 10 * time.Second, GiveUp: GiveUp{After: 3 * 24 * time.Hour, Then: GiveUpDead}}
}

const (
	maxRecipientFilters = 10_000
	maxURL              = 2000
)

var webhookKeys = []key[Webhook]{
	{"kind", func(_ *Webhook, v *value) { v.text() }},
	{"name", func(w *Webhook, v *value) { w.Name = parsed(v, parseName) }},
	{"tenant", func(w *Webhook, v *value) { w.Tenant = parsed(v, parseName) }},
	{"all", func(w *Webhook, v *value) { w.All = v.boolean() }},
	{"url", func(w *Webhook, v *value) { w.URL = parsed(v, parseHookURL) }},
	{"secret", readHookSecret},
	{"former_secret", readHookSecret},
	{"events", func(w *Webhook, v *value) {
		w.Events = map[pb.EventType]bool{}
		v.list(len(pb.EventType_name), func(e *value) { w.Events[parsed(e, ParseEventType)] = true })
	}},
	{"recipients", func(w *Webhook, v *value) {
		v.list(maxRecipientFilters, func(e *value) { w.Recipients = append(w.Recipients, parsed(e, parseRecipientFilter)) })
	}},
	{"queue", func(w *Webhook, v *value) { w.Queue = parsed(v, parseName) }},
	{"concurrency", func(w *Webhook, v *value) { w.Concurrency = int(v.integer(1, 256)) }},
	{"timeout", func(w *Webhook, v *value) { w.Timeout = v.duration(time.Second, 30*time.Second) }},
	{"give_up", func(w *Webhook, v *value) { nested(v, &w.GiveUp, giveUpKeys) }},
	{"private", func(w *Webhook, v *value) { w.Private = v.boolean() }},
}

var giveUpKeys = []key[GiveUp]{
	{"after", func(g *GiveUp, v *value) { g.After = v.duration(time.Second, 30*24*time.Hour) }},
	{"then", func(g *GiveUp, v *value) { g.Then = v.oneOf(GiveUpDead, GiveUpPause) }},
}

func readHookSecret(w *Webhook, v *value) {
	if s := secret(v, parseHookSecret); s != nil {
		w.Secrets = append(w.Secrets, *s)
	}
}

// parseHookSecret checks a secret as Standard Webhooks have it. The error
// doesn't show it.
func parseHookSecret(s string) (string, error) {
	coded, ok := strings.CutPrefix(s, "whsec_")
	octets, err := base64.StdEncoding.Strict().DecodeString(coded)
	if !ok || err != nil || len(octets) < 24 || len(octets) > 64 {
		return "", errors.New(`a secret is "whsec_" and the base64 of 24 to 64 octets (make one by: echo whsec_$(head -c 32 /dev/urandom | base64))`)
	}
	return s, nil
}

func parseHookURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "" || len(s) > maxURL || u.Opaque != "":
		return nil, fmt.Errorf("%q is no URL: write https://host/path", mail.Printable(s))
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("%q is neither https nor http", mail.Printable(s))
	case u.User != nil:
		return nil, errors.New("a URL holds no user and password: requests are signed by the secret")
	case u.Fragment != "":
		return nil, fmt.Errorf("%q has a fragment, which is never sent", mail.Printable(s))
	}
	return u, nil
}

// ParseEventType reads a type of event in the word of EventWord.
func ParseEventType(word string) (pb.EventType, error) {
	n, ok := pb.EventType_value[eventPrefix+strings.ToUpper(word)]
	if !ok || n == 0 || word != strings.ToLower(word) {
		return 0, fmt.Errorf("%q is no type of event: write delivered, deferred, bounced, expired or another of docs/topics.md", mail.Printable(word))
	}
	return pb.EventType(n), nil
}

const eventPrefix = "EVENT_TYPE_"

// EventWord is a type of event as people write it: "delivered".
func EventWord(t pb.EventType) string {
	return strings.ToLower(strings.TrimPrefix(t.String(), eventPrefix))
}

// parseRecipientFilter reads an address, "@domain" or "@.suffix".
func parseRecipientFilter(s string) (string, error) {
	if s == sendersTenant {
		return "", fmt.Errorf("%q is no address: a webhook of a tenant gets its recipients only", s)
	}
	return parseSender(s)
}

// Wants reports whether an address is one of its recipients.
func (w *Webhook) Wants(address string) bool {
	if len(w.Recipients) == 0 {
		return true
	}
	address = normalAddress(address)
	domain := mail.Domain(address)
	for _, r := range w.Recipients {
		pattern, whole := strings.CutPrefix(r, "@")
		if !whole && r == address {
			return true
		}
		if _, _, ok := (patterns[bool]{pattern: true}).find(domain); whole && ok && domain != "" {
			return true
		}
	}
	return false
}

// completeWebhook checks what a webhook needs as a whole.
func (r *reading) completeWebhook(w *Webhook, missing func(string), fail func(string, ...any)) {
	missing("name")
	missing("url")
	missing("secret")
	if (w.Tenant == "") == !w.All {
		fail("say whose events it gets: tenant: NAME, or all: true")
	}
	if w.URL != nil && w.URL.Scheme == "http" && !w.Private {
		fail("url: http is only for private: true; write https")
	}
}

func (c *checker) addWebhook(d *Document, w *Webhook) {
	hook := *w
	c.webhooks[hook.Name] = &hook
	for _, key := range []string{"secret", "former_secret"} {
		if d.masked[key] != "" {
			c.fail(d, key, "%s is hidden: give the value itself, or apply where the same one is in force", key)
		}
	}
}

// Webhook finds a webhook by name; nil if none. Don't change it.
func (s *Snapshot) Webhook(name string) *Webhook { return s.webhooks[name] }

// Webhooks are all webhooks by name. Don't change them.
func (s *Snapshot) Webhooks() []*Webhook { return s.webhookList }
