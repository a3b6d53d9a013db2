package tenants

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
	"qstream/tapper/view"
)

// Path is where tenants read their events.
const Path = "/v1/events"

// Bounds of an answer.
const (
	defaultLimit = 100
	maxLimit     = 1000
	maxWait      = time.Minute
	maxAnswer    = 4 << 20         // bytes, beyond which no event is added
	scanTime     = 5 * time.Second // reading of others' events before what is found is answered
	scanBytes    = 1 << 20         // of a partition at a time
	pollEvery    = 250 * time.Millisecond
	perTenant    = 4 // requests at once
	atOnce       = 64
	writeBytes   = 64 << 10         // of an answer at a time
	writeTime    = 10 * time.Second // in which who asked takes them
)

// Errors of Deps.Identify that are the client's own; others are temporary.
var (
	ErrUnknown   = errors.New("sign in by user and password")
	ErrForbidden = errors.New("this user may not read its tenant's events")
)

// Handler answers GET /v1/events: the events of the tenant whose user asks,
// as JSON lines. Parameters:
//
//	after=CURSOR   behind that place; without it from the oldest that is kept
//	since=TIME     from then on (RFC 3339); not with after
//	limit=N        at most so many events, 1 to 1,000; default 100; fewer where
//	               they are more than 4 MiB
//	wait=DURATION  wait so long for one, at most 60s; default 0
//
// Each line is {"event":{...},"cursor":"..."}; the last one {"cursor":"...",
// "more":true} says where to go on, and whether there may be more at once. 400
// is a question that makes no sense, 401 and 403 one by somebody else, 429 too
// many at once, 503 no answer now. Who doesn't take 64 KiB in 10 s is cut off
// within the answer, whose last line is missing then. It is safe for concurrent
// use.
func (t *Tenants) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+Path, func(w http.ResponseWriter, r *http.Request) {
		code := t.serve(w, r)
		t.metrics.asked.WithLabelValues(strconv.Itoa(code)).Inc()
	})
	return mux
}

func (t *Tenants) serve(w http.ResponseWriter, r *http.Request) int {
	fail := func(code int, err error) int {
		http.Error(w, err.Error(), code)
		return code
	}
	if t.deps.Identify == nil {
		return fail(http.StatusForbidden, ErrForbidden)
	}
	_, tenant, err := t.deps.Identify(r)
	switch {
	case errors.Is(err, ErrUnknown):
		w.Header().Set("WWW-Authenticate", `Basic realm="events", charset="UTF-8"`)
		return fail(http.StatusUnauthorized, ErrUnknown)
	case errors.Is(err, ErrForbidden) || err == nil && tenant == "":
		return fail(http.StatusForbidden, ErrForbidden)
	case err != nil:
		return fail(http.StatusServiceUnavailable, errors.New("users can't be checked at the moment, try again later"))
	}
	q, err := parseQuestion(r.URL.Query())
	if err != nil {
		return fail(http.StatusBadRequest, err)
	}
	leave, ok := t.asking.enter(tenant)
	if !ok {
		w.Header().Set("Retry-After", "1")
		return fail(http.StatusTooManyRequests, errors.New("too many requests at once"))
	}
	defer leave()
	a, err := t.answer(r.Context(), tenant, q)
	if err != nil {
		t.deps.Log.Warn("events can't be read", "tenant", tenant, "err", err)
		return fail(http.StatusServiceUnavailable, errors.New("events can't be read at the moment, try again later"))
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	if err := t.send(w, a.lines.Bytes()); err != nil {
		t.metrics.cutOff.Inc()
		t.deps.Log.Info("who asked for events does not take them", "tenant", tenant, "err", err)
		return http.StatusOK
	}
	t.metrics.served.Add(float64(a.events))
	return http.StatusOK
}

// send writes an answer, piece by piece, each with a deadline of its own: who
// doesn't read would keep one of its tenant's places for ever. After an error
// net/http closes the connection.
func (t *Tenants) send(w http.ResponseWriter, lines []byte) error {
	w.Header().Set("Content-Length", strconv.Itoa(len(lines))) // what is cut off is seen to be
	control := http.NewResponseController(w)
	for piece := range slices.Chunk(lines, writeBytes) {
		// A recorder has no deadlines; a connection that is gone fails below.
		_ = control.SetWriteDeadline(time.Now().Add(t.writeTime))
		if _, err := w.Write(piece); err != nil {
			return err
		}
	}
	if err := control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// question is what is asked for.
type question struct {
	after map[int32]int64 // nil: see since
	since time.Time       // zero: from the oldest
	limit int
	wait  time.Duration
}

func parseQuestion(v url.Values) (q question, err error) {
	q.limit = defaultLimit
	for name, values := range v {
		if len(values) != 1 {
			return q, fmt.Errorf("%s: want it once", name)
		}
		text := values[0]
		switch name {
		case "after":
			q.after, err = decodeCursor(text)
		case "since":
			if q.since, err = time.Parse(time.RFC3339, text); err != nil {
				err = errors.New("since: want a time such as 2026-02-03T04:05:06Z")
			}
		case "limit":
			if q.limit, err = strconv.Atoi(text); err != nil || q.limit < 1 || q.limit > maxLimit {
				err = fmt.Errorf("limit: want a number from 1 to %d", maxLimit)
			}
		case "wait":
			if q.wait, err = time.ParseDuration(text); err != nil || q.wait < 0 || q.wait > maxWait {
				err = fmt.Errorf("wait: want a duration up to %v, such as 30s", maxWait)
			}
		default:
			err = errors.New("known parameters are after, since, limit and wait")
		}
		if err != nil {
			return q, err
		}
	}
	if q.after != nil && !q.since.IsZero() {
		return q, errors.New("after and since exclude each other")
	}
	return q, nil
}

// answer are the lines of an answer.
type answer struct {
	lines  bytes.Buffer
	events int
}

// full is whether no more is added: an event names as many recipients as a
// message has, and a cursor that is made up can be long.
func (a *answer) full(limit int) bool { return a.events >= limit || a.lines.Len() >= maxAnswer }

// answer reads until there are enough events, or nothing more and no time.
func (t *Tenants) answer(ctx context.Context, tenant string, q question) (*answer, error) {
	a, at := &answer{}, q.after
	var err error
	if !q.since.IsZero() {
		if at, err = t.deps.Bus.Since(ctx, schemas.Events, q.since); err != nil {
			return nil, err
		}
	}
	began, more := time.Now(), true
	for {
		if at, more, err = t.read(ctx, tenant, at, q.limit, a); err != nil {
			return nil, err
		}
		spent := time.Since(began)
		switch {
		case a.full(q.limit), more && spent > scanTime, !more && (a.events > 0 || spent >= q.wait):
			fmt.Fprintf(&a.lines, `{"cursor":%q,"more":%t}`+"\n", encodeCursor(at), more)
			return a, nil
		case more:
			continue
		}
		select {
		case <-time.After(min(pollEvery, q.wait-spent)):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// read reads once, through the tenant's view.
func (t *Tenants) read(ctx context.Context, tenant string, from map[int32]int64, limit int, a *answer) (map[int32]int64, bool, error) {
	owner := view.OwnerIn(t.deps.Directory.Snapshot())
	at := map[int32]int64{} // behind what was read, as far as it is known
	for p, o := range from {
		at[p] = o
	}
	var failed error
	next, more, err := t.deps.Bus.Some(ctx, schemas.Events, from, scanBytes, func(r bus.Record) bool {
		e := &pb.Event{}
		if a.full(limit) {
			return false
		}
		at[r.Partition] = r.Offset + 1
		if proto.Unmarshal(r.Value, e) != nil {
			return true // garbage is nobody's
		}
		v := view.Of(e, tenant, owner)
		if v == nil {
			return true
		}
		line, err := schemas.JSON(v)
		if err != nil {
			failed = err
			return false
		}
		fmt.Fprintf(&a.lines, `{"event":%s,"cursor":%q}`+"\n", line, encodeCursor(at))
		a.events++
		return true
	})
	return next, more, errors.Join(err, failed)
}

// asking bounds how many ask at once: an answer may read much that isn't the
// tenant's.
type asking struct {
	mu  sync.Mutex
	all int
	of  map[string]int
}

func (a *asking) enter(tenant string) (leave func(), ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.all >= atOnce || a.of[tenant] >= perTenant {
		return nil, false
	}
	if a.of == nil {
		a.of = map[string]int{}
	}
	a.all++
	a.of[tenant]++
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.all--
		if a.of[tenant]--; a.of[tenant] == 0 {
			delete(a.of, tenant)
		}
	}, true
}
