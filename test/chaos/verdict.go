package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"qstream/ledger/audit"
)

// span is a fault with the time that it took.
type span struct {
	Fault
	Began, Ended time.Time
}

// Verdict is what became of the mail of one round.
type Verdict struct {
	Faults     int
	Accepted   int
	Delivered  int            // of these, at the sink
	Bounced    int            // of these, by a DSN where one is due
	Lost       []string       // accepted, and neither: identity, message id, recipient
	Wrong      []string       // a bounce or a refusal of what is fine
	Untried    []string       // expired without an attempt
	Duplicates map[Kind]int   // arrivals beyond the first, by the kind of fault before them
	Repeats    []string       // these arrivals
	Excess     []string       // faults that made more than guarantee 5 allows
	Reports    int            // DSNs beyond the first
	Uneven     string         // what the audit found, "" when it balances
	Fallen     map[string]int // processes that ended by themselves
	Panics     []string       // of these, what their logs say of a panic
	Stuck      error          // faults that could not be done
}

// duplicates is how many there are in all.
func (v Verdict) duplicates() int {
	n := 0
	for _, some := range v.Duplicates {
		n += some
	}
	return n
}

// failures say what is not as it has to be; none: the round passed.
func (v Verdict) failures(cleanly bool) (all []string) {
	fail := func(what string, some []string) {
		if len(some) > 0 {
			all = append(all, fmt.Sprintf("%s: %d, such as %s", what, len(some), strings.Join(some[:min(3, len(some))], "; ")))
		}
	}
	fail("lost", v.Lost)
	fail("bounced or refused without reason", v.Wrong)
	fail("expired untried", v.Untried)
	fail("panics", v.Panics)
	fail("more duplicates than guarantee 5 allows", v.Excess)
	if n := v.duplicates(); cleanly && n > 0 {
		all = append(all, fmt.Sprintf("%d duplicates in a clean round: %v", n, v.Duplicates))
	}
	if n := v.Duplicates[unexplained]; n > 0 {
		all = append(all, fmt.Sprintf("%d duplicates that no fault explains", n))
	}
	for _, kind := range clean {
		// It is blamed only where no other fault can have made them.
		if n := v.Duplicates[kind]; n > 0 {
			all = append(all, fmt.Sprintf("%d duplicates of a %s, which must make none", n, kind))
		}
	}
	if v.Uneven != "" {
		all = append(all, "the audit doesn't balance: "+v.Uneven)
	}
	if v.Accepted == 0 {
		all = append(all, "nothing was accepted: the round shows nothing")
	}
	if v.Stuck != nil {
		all = append(all, v.Stuck.Error())
	}
	return all
}

// bounces are the identities that DSNs of a failure came about, with how often.
func (w *world) bounces() map[string]int {
	bounces := map[string]int{}
	for _, m := range w.reports.Accepted() {
		if identity, ok := returned(m.Rcpts[0]); ok && bytes.Contains(m.Data, []byte("\nAction: failed")) {
			bounces[identity]++
		}
	}
	return bounces
}

// reported are the DSNs beyond the first about a mail: the same one that came
// twice, or another.
func (w *world) reported() (repeats []string) {
	type report struct {
		id string
		at time.Time
	}
	last := map[string]report{}
	for _, m := range w.reports.Accepted() {
		identity, ok := returned(m.Rcpts[0])
		if !ok {
			continue
		}
		_, rest, _ := bytes.Cut(m.Data, []byte("\nMessage-ID: "))
		id, _, _ := bytes.Cut(rest, []byte("\r\n"))
		now := report{string(id), m.Time}
		if before, again := last[identity]; again {
			repeats = append(repeats, fmt.Sprintf("DSNs about %s: %s at %s and %s at %s", identity,
				before.id, before.at.Format(clockTime), now.id, now.at.Format(clockTime)))
		}
		last[identity] = now
	}
	return repeats
}

// waiting are the accepted mails whose fate isn't known yet.
func (w *world) waiting() []string {
	arrived, bounces := w.sink.Counts(), w.bounces()
	var waiting []string
	for identity, id := range w.load.Fates() {
		if arrived[identity] == 0 && bounces[identity] == 0 {
			waiting = append(waiting, identity+" "+id+" "+recipient(number(identity)))
		}
	}
	return waiting
}

// drain waits until every accepted mail has met its fate, or none did for a
// while. What waits is flushed: some attempts are put off for minutes.
func (w *world) drain(patience time.Duration, out io.Writer) {
	least, since := -1, time.Now()
	for flushed := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		n := len(w.waiting())
		if n == 0 {
			break
		}
		if least < 0 || n < least {
			least, since = n, time.Now()
		}
		if time.Since(since) > patience {
			return
		}
		if time.Since(flushed) > 5*time.Second {
			_, _, _ = w.Verb("queue", "flush", "--all")
			flushed = time.Now()
			some := w.waiting()
			fmt.Fprintf(out, "%s drained but for %d: %s\n", flushed.Format("15:04:05.0"), len(some), strings.Join(some[:min(2, len(some))], "; "))
		}
	}
	time.Sleep(3 * time.Second) // for late repetitions
}

// judge tells what became of the mail.
func (w *world) judge(spans []span) (Verdict, error) {
	v := Verdict{Faults: len(spans), Lost: w.waiting(), Fallen: w.fallenAlone()}
	arrived, bounces, fates := w.sink.Counts(), w.bounces(), w.load.Fates()
	v.Accepted = len(fates)
	tried, err := w.attempts()
	if err != nil {
		return v, err
	}
	for identity, id := range fates {
		to := recipient(number(identity))
		switch {
		case arrived[identity] > 0:
			v.Delivered++
		case bounces[identity] > 0:
			v.Bounced++
		}
		if n := bounces[identity]; n > 0 && to != gone && to != brief {
			v.Wrong = append(v.Wrong, fmt.Sprintf("DSN about %s %s %s", identity, id, to))
		} else if n > 0 && !tried[id] {
			v.Untried = append(v.Untried, identity+" "+id+" "+to)
		} else {
			v.Reports += max(0, n-1)
		}
	}
	v.Uneven = w.uneven()
	if v.Panics, err = panics(w.Work); err != nil {
		return v, err
	}
	v.Wrong = append(v.Wrong, w.strange(arrived, fates)...)
	v.Duplicates, v.Repeats, v.Excess = attribute(w.sink.Accepted(), fates, spans, deliverers(w.Broker))
	v.Repeats = append(v.Repeats, w.reported()...)
	return v, nil
}

// strange are refusals for good and mail that nobody accepted.
func (w *world) strange(arrived map[string]int, fates map[string]string) (all []string) {
	for reply, n := range w.load.Refused() {
		if reply[0] == '5' {
			all = append(all, fmt.Sprintf("%d times %q", n, reply))
		}
	}
	if n := w.load.Tally(arrived).Strange; n > 0 {
		all = append(all, fmt.Sprintf("%d mails that nobody was told to be accepted", n))
	}
	return all
}

// fallenAlone are the processes that ended though no fault ended them.
func (w *world) fallenAlone() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.started)
}

// panics are the lines of the processes' logs by which Go ends one: a role may
// end by an error that it tells, but not so.
func panics(dir string) (found []string, err error) {
	logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		return nil, err
	}
	for _, name := range logs {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		for line := range bytes.Lines(text) {
			if bytes.HasPrefix(line, []byte("panic: ")) || bytes.HasPrefix(line, []byte("fatal error: ")) {
				found = append(found, filepath.Base(name)+": "+string(bytes.TrimSpace(line)))
			}
		}
	}
	return found, nil
}

// attempts are the message ids of which events tell an attempt.
func (w *world) attempts() (map[string]bool, error) {
	out, errs, err := w.Verb("tail", "qstream.events.v1", "--json")
	if err != nil {
		return nil, fmt.Errorf("read the events: %w: %s", err, errs)
	}
	tried := map[string]bool{}
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var r struct {
			Value struct {
				Type      string `json:"type"`
				MessageID string `json:"message_id"`
			} `json:"value"`
		}
		if err := dec.Decode(&r); err != nil {
			return nil, fmt.Errorf("read the events: %w", err)
		}
		if r.Value.Type == "EVENT_TYPE_ATTEMPTED" {
			tried[r.Value.MessageID] = true
		}
	}
	return tried, nil
}

// uneven is what the ledger's audit finds once all mail has met its fate; ""
// when it balances and nothing waits. What moves is given time.
func (w *world) uneven() string {
	args := []string{"audit", "--json"}
	if p := w.Process("ledger"); p != nil {
		args = append(args, "--api", "http://"+p.HTTP)
	}
	found := ""
	for range 10 {
		out, errs, _ := w.Verb(args...)
		var r audit.Report
		switch err := json.Unmarshal(out, &r); {
		case err != nil:
			found = fmt.Sprintf("no report: %v: %s", err, errs)
		case !r.Balanced || r.Total.Waiting > 0 || r.Total.Missing > 0:
			found = strings.TrimSpace(string(out))
		default:
			return ""
		}
		time.Sleep(3 * time.Second)
	}
	return found[:min(4000, len(found))]
}
