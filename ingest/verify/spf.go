package verify

import (
	"context"
	"errors"
	"net/netip"
	"strings"

	"blitiri.com.ar/go/spf"

	"qstream/mail"
)

// Client is who brings a message.
type Client struct {
	IP   netip.Addr
	HELO string // hostile text
}

// SPFRules are what a site adds to what domains publish.
type SPFRules struct {
	// Local are terms of an SPF record that count before a domain's own would
	// fail, or where it has none: "include:friends.example ip4:192.0.2.0/24".
	Local string
	// Explain is what a refused client is told where its domain has nothing to
	// say; macros of RFC 7208 7 are replaced. Empty: DefaultExplain.
	Explain string
	// Receiver is our name.
	Receiver string
}

// DefaultExplain is told where neither domain nor site explain a failure.
const DefaultExplain = "%{i} is not allowed to send mail for %{o}"

// SPF is what a sender's domain says about a client.
type SPF struct {
	Result   string // None to PermError
	Domain   string // whose policy it is; empty if there is nobody to ask
	Sender   string // the identity: reverse-path, or postmaster at HELO's name
	ByHELO   bool   // the reverse-path is null: HELO's name was asked
	Problem  string // why; hostile text, may be empty
	Explain  string // for the client, if Result is Fail; hostile text
	Local    bool   // the site's rules let it pass
	client   Client
	receiver string
}

// SPF checks the reverse-path, or HELO's name if that is null (RFC 7208 2.4).
func (c *Checker) SPF(ctx context.Context, client Client, reversePath string, rules SPFRules) SPF {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	client.IP = client.IP.Unmap().WithZone("")
	s := SPF{Result: None, Sender: reversePath, client: client, receiver: rules.Receiver}
	if reversePath == "" {
		s.ByHELO, s.Sender = true, "postmaster@"+client.HELO
	}
	at := strings.LastIndexByte(s.Sender, '@')
	s.Domain = mail.NormalDomain(s.Sender[at+1:])
	if !client.IP.IsValid() || !fullName(s.Domain) {
		s.Domain, s.Problem = "", "no domain to ask"
		return s
	}
	local := strings.ReplaceAll(s.Sender[:max(at, 0)], "@", ".") // a quoted local part; the library cuts at the first
	s.Sender = local + "@" + s.Domain
	if local == "" {
		s.Sender = "postmaster@" + s.Domain // RFC 7208 4.3
	}
	var err error
	s.Result, err = c.checkHost(ctx, s, nil)
	s.Problem = problem(s.Result, err)
	if rules.Local != "" && (s.Result == None || s.Result == Neutral || s.Result == SoftFail || s.Result == Fail) {
		own := map[string]string{s.Domain: "v=spf1 " + rules.Local + " -all"}
		if result, _ := c.checkHost(ctx, s, own); result == Pass {
			s.Result, s.Local, s.Problem = Pass, true, "local rules"
		}
	}
	if s.Result == Fail {
		s.Explain = c.explain(ctx, s, rules)
	}
	return s
}

// checkHost is check_host() of RFC 7208 4. instead are records that stand for
// those of DNS.
func (c *Checker) checkHost(ctx context.Context, s SPF, instead map[string]string) (string, error) {
	l := &lookup{c: c, v6: s.client.IP.Is6(), instead: instead}
	result, err := spf.CheckHostWithSender(s.client.IP.AsSlice(), s.client.HELO, s.Sender, spf.WithContext(ctx), spf.WithResolver(l))
	if result == spf.PermError && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		result = spf.TempError // what was left of the record was not read
	}
	return string(result), err
}

func problem(result string, err error) string {
	if err == nil || result == Pass {
		return ""
	}
	return mail.Printable(err.Error())
}

// fullName reports a domain that can be asked: RFC 7208 4.3.
func fullName(domain string) bool {
	if len(domain) > mail.MaxDomain || !strings.Contains(domain, ".") || strings.HasPrefix(domain, "[") {
		return false
	}
	for label := range strings.SplitSeq(domain, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
	}
	return true
}

// Levels of SPF, as s/qmail numbers them: each refuses what the lower do, too.
const (
	SPFOff      = 0 // ask nobody
	SPFAnnotate = 1 // write down
	SPFDefer    = 2 // defer on trouble of DNS
	SPFReject   = 3 // refuse what fails
	SPFSoftFail = 4
	SPFNeutral  = 5
	SPFNone     = 6 // refuse all that doesn't pass, broken records included
)

// Refusal is what the client hears at a level, if it is refused. Codes are
// those of RFC 7208 8.
func (s SPF) Refusal(level int) (mail.Status, bool) {
	says := func(word string) mail.Status {
		return mail.Status{Code: 550, Enhanced: "5.7.1", Text: "SPF of " + s.name() + " says " + word}
	}
	switch {
	case s.Result == TempError && level >= SPFDefer:
		return mail.Status{Code: 451, Enhanced: "4.4.3", Text: "SPF of " + s.name() + " cannot be looked up, try again later"}, true
	case s.Result == Fail && level >= SPFReject:
		return mail.Status{Code: 550, Enhanced: "5.7.1", Text: s.Explain}, true
	case s.Result == SoftFail && level >= SPFSoftFail:
		return says("softfail"), true
	case s.Result == Neutral && level >= SPFNeutral:
		return says("neutral"), true
	case s.Result == None && level >= SPFNone:
		return mail.Status{Code: 550, Enhanced: "5.7.1", Text: s.name() + " has no SPF record"}, true
	case s.Result == PermError && level >= SPFNone:
		return mail.Status{Code: 550, Enhanced: "5.5.2", Text: "SPF record of " + s.name() + " is broken"}, true
	}
	return mail.Status{}, false
}

func (s SPF) name() string {
	if s.Domain == "" {
		return "the sender"
	}
	return mail.Printable(s.Domain)
}
