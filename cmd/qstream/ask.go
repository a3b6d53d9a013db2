package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"qstream/directory"
	"qstream/ledger"
	"qstream/mail"
)

// askWithin bounds an answer of the ledger: it may have to look at a million
// legs.
const askWithin = time.Minute

// errNoLedger is a system whose ledger can't answer now; the log still can.
var errNoLedger = errors.New("the ledger doesn't answer")

// ask puts a question to the system's ledger.
func (s *Place) ask(ctx context.Context, path string, q url.Values, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	return s.exchange(ctx, http.MethodGet, path, q, answer)
}

// exchange is one request to the system's ledger, for as long as ctx lets it.
func (s *Place) exchange(ctx context.Context, method, path string, q url.Values, answer any) error {
	base, err := s.ledgerURL()
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, base+path+"?"+q.Encode(), nil)
	if err != nil {
		return usagef("--api: %w", err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoLedger, err)
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusOK {
		if err := json.NewDecoder(res.Body).Decode(answer); err != nil {
			return fmt.Errorf("%w: read %s: %w", errNoLedger, path, err)
		}
		return nil
	}
	text, _ := io.ReadAll(io.LimitReader(res.Body, 4<<10))
	said := mail.Printable(strings.TrimSpace(string(text)))
	switch {
	case res.StatusCode == http.StatusNotFound && said == "not known":
		return notFoundf("%s", said)
	case res.StatusCode == http.StatusBadRequest:
		return usagef("%s", said)
	}
	return fmt.Errorf("%w: %s: %s", errNoLedger, res.Status, said)
}

// ledgerURL is where the ledger answers: at --api, or as the running up says.
func (s *Place) ledgerURL() (string, error) {
	if s.API != "" {
		return apiBase(s.API)
	}
	dir := s.Data
	if dir == "" {
		dir = defaultData
	}
	running, err := findByData(dir)
	if err != nil {
		return "", err
	}
	host, port, err := net.SplitHostPort(running.HTTP)
	if err != nil {
		return "", fmt.Errorf("%w: the up on %s serves no HTTP", errNoLedger, dir)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port), nil
}

// stale says on stderr that an answer is not up to date.
func stale(w io.Writer, f ledger.Fresh) {
	switch {
	case f.Behind == 0:
	case f.At.IsZero():
		fmt.Fprintf(w, "the ledger is being built from the log: %d events aren't in it yet\n", f.Behind)
	default:
		fmt.Fprintf(w, "the ledger is as of %s: %d events aren't in it yet\n", f.At.Format(time.RFC3339), f.Behind)
	}
}

// plural is a number of things.
func plural[N int | int64](n N, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// typedID is an id as it was made: a person may have typed it in lower case.
func typedID(id string) string { return strings.ToUpper(id) }

// legFlags choose unfinished legs.
type legFlags struct {
	Tenant      string   `placeholder:"NAME" help:"Mail of this tenant."`
	Queue       string   `placeholder:"NAME" help:"Mail in this queue."`
	Destination string   `placeholder:"DESTINATION" help:"Mail for this destination: a domain, host:port or path, as trace shows it."`
	Host        string   `placeholder:"NAME" help:"Mail whose last attempt was at this host."`
	Place       string   `placeholder:"PLACE" help:"Mail that is there: received, reinject, queue, delay, parked or deadletter."`
	Reason      string   `placeholder:"REASON" help:"Mail that waits for this reason: deferred, backpressure, unconfirmed, suspended, round, breaker or held."`
	Reply       string   `placeholder:"TEXT" help:"Mail whose last reply contains this."`
	Older       duration `placeholder:"DURATION" help:"Mail accepted longer ago than this."`
	Limit       int      `placeholder:"N" default:"50" help:"Show at most so many (default: ${default})."`
}

func (f legFlags) query() url.Values {
	q := url.Values{"limit": {fmt.Sprint(f.Limit)}}
	for name, value := range map[string]string{
		"tenant": f.Tenant, "queue": f.Queue, "destination": f.Destination, "host": f.Host,
		"place": f.Place, "reason": f.Reason, "reply": f.Reply,
	} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if f.Older > 0 {
		q.Set("older", time.Duration(f.Older).String())
	}
	return q
}

// age is how old something is, in the two largest units.
func age(at, now time.Time) string {
	d := now.Sub(at)
	switch {
	case d >= 24*time.Hour:
		d = d.Truncate(time.Hour)
	case d >= time.Hour:
		d = d.Truncate(time.Minute)
	}
	return directory.FormatDuration(d)
}

// andMore names the first of n things, and how many more there are.
func andMore(first string, n int) string {
	if n > 1 {
		return fmt.Sprintf("%s and %d more", shown(first), n-1)
	}
	return shown(first)
}

// shown is outside text in a table; nothing is "-".
func shown(text string) string {
	const most = 100
	text = strings.TrimSpace(mail.Printable(text))
	if text == "" {
		return "-"
	}
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return text
}
