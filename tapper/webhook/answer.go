package webhook

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// Waits before an event is posted again, and before an endpoint that is down is
// asked again.
const (
	firstWait = time.Second
	longest   = 30 * time.Minute
	downFirst = 2 * time.Second
	downMost  = time.Minute
	// afterMost bounds what an endpoint may ask for.
	afterMost = time.Hour
	// downAfter is how many posts in a row fail before one at a time is made.
	downAfter = 3
)

// answer is how a post ended.
type answer struct {
	taken bool
	gone  bool          // the endpoint wants no more, ever
	after time.Duration // how long it wants to be left alone; 0: it doesn't say
	err   string        // why it isn't taken
	code  int           // 0: no answer
}

// read is what an endpoint's answer means. Whatever isn't 2xx is not taken;
// a redirect isn't followed, since a secret's signature is for one place.
func read(resp *http.Response, now time.Time) answer {
	a := answer{code: resp.StatusCode}
	switch {
	case a.code >= 200 && a.code < 300:
		a.taken = true
		return a
	case a.code == http.StatusGone:
		a.gone = true
	case a.code == http.StatusTooManyRequests, a.code >= 500:
		a.after = retryAfter(resp.Header.Get("Retry-After"), now)
	}
	a.err = fmt.Sprintf("answered %d %s", a.code, http.StatusText(a.code))
	if a.code >= 300 && a.code < 400 {
		a.err += ": redirects are not followed"
	}
	return a
}

// retryAfter reads the field (RFC 9110 10.2.3); 0: none that can be read.
func retryAfter(field string, now time.Time) time.Duration {
	if field == "" {
		return 0
	}
	wait := time.Duration(0)
	if s, err := strconv.Atoi(field); err == nil {
		wait = time.Duration(min(max(s, 0), int(afterMost/time.Second))) * time.Second
	} else if at, err := http.ParseTime(field); err == nil {
		wait = at.Sub(now)
	}
	return min(max(wait, 0), afterMost)
}

// pause is how long to wait after so many failures, from 1: doubled each time,
// up to most, and a quarter more or less, so that many don't come at once.
func pause(failures int, first, most time.Duration, chance func() float64) time.Duration {
	wait := most
	if shift := failures - 1; shift < 30 && first<<shift < most {
		wait = first << max(shift, 0)
	}
	return time.Duration(float64(wait) * (0.75 + chance()/2))
}

func chance() float64 { return rand.Float64() }
