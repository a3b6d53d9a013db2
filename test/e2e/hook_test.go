package e2e

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"qstream/test/fakehook"
)

func init() {
	commands["endpoint"] = cmdEndpoint
	commands["answers"] = cmdAnswers
	commands["posted"] = cmdPosted
	commands["events"] = cmdEvents
	commands["waitfor"] = cmdWaitfor
}

// endpoint NAME: start a webhook's endpoint; its URL goes to $NAME, its secret
// to $SECRET.
func cmdEndpoint(ts *testscript.TestScript, neg bool, args []string) {
	h, err := fakehook.Start()
	ts.Check(err)
	ts.Defer(h.Close)
	of(ts).hooks[args[0]] = h
	ts.Setenv(args[0], h.URL())
	ts.Setenv("SECRET", fakehook.Secret)
}

// answers NAME CODE: let an endpoint answer so from now on.
func cmdAnswers(ts *testscript.TestScript, neg bool, args []string) {
	code, err := strconv.Atoi(args[1])
	ts.Check(err)
	of(ts).hooks[args[0]].Answer(code)
}

// posted NAME COUNT [/REGEXP/] [x/REGEXP/] [twice]: in time an endpoint has taken so many
// posts with ids of their own, each pattern matched by one, none that matches
// an x; twice: so many at least came again, with ids that were there. Every post is
// signed. With "!": so many were asked of it that it didn't take.
func cmdPosted(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	ts.Check(eventually(patience, func() error {
		posts, asked, err := of(ts).hooks[args[0]].Taken()
		if err != nil {
			return err
		}
		if neg {
			if asked-len(posts) < want {
				return fmt.Errorf("%d were asked in vain, wanted %d", asked-len(posts), want)
			}
			return nil
		}
		times, all := map[string]int{}, ""
		for _, p := range posts {
			times[p.ID]++
			all += p.Body + "\n"
		}
		n := len(times)
		if args[len(args)-1] == "twice" {
			n = min(len(posts)-n, want) // a kill may have repeated others
		}
		if n != want {
			return fmt.Errorf("%d posts, %d ids, wanted %d:\n%s\n%s", len(posts), len(times), want, all, of(ts).logs())
		}
		return matches(all, args[2:])
	}))
}

// matches holds lines against /REGEXP/ that one of them has to match, and
// x/REGEXP/ that none may.
func matches(lines string, patterns []string) error {
	for _, p := range patterns {
		if not, ok := strings.CutPrefix(p, "x/"); ok {
			if regexp.MustCompile(strings.TrimSuffix(not, "/")).MatchString(lines) {
				return fmt.Errorf("%s is in\n%s", not, lines)
			}
		} else if is, ok := strings.CutPrefix(p, "/"); ok && !regexp.MustCompile(strings.TrimSuffix(is, "/")).MatchString(lines) {
			return fmt.Errorf("%s is not in\n%s", is, lines)
		}
	}
	return nil
}

// events -auth USER:PASSWORD COUNT [/REGEXP/] [x/REGEXP/]: in time GET /v1/events tells so many
// events, page by page. With "!": it answers by the status COUNT.
func cmdEvents(ts *testscript.TestScript, neg bool, args []string) {
	flags := flag.NewFlagSet("events", flag.ContinueOnError)
	auth := flags.String("auth", "", "")
	ts.Check(flags.Parse(args))
	want, err := strconv.Atoi(flags.Arg(0))
	ts.Check(err)
	ts.Check(eventually(patience, func() error {
		lines, code, err := allEvents(of(ts).Process("up").HTTP, *auth)
		if err != nil {
			return err
		}
		if neg {
			if code != want {
				return fmt.Errorf("status %d, wanted %d", code, want)
			}
			return nil
		}
		if code != http.StatusOK || len(lines) != want {
			return fmt.Errorf("status %d, %d events, wanted %d:\n%s", code, len(lines), want, strings.Join(lines, "\n"))
		}
		return matches(strings.Join(lines, "\n"), flags.Args()[1:])
	}))
}

// allEvents reads a tenant's events to their end, three at a time.
func allEvents(addr, auth string) (lines []string, code int, err error) {
	client := &http.Client{Timeout: time.Minute}
	for query := "?limit=3"; ; {
		req, err := http.NewRequest(http.MethodGet, "http://"+addr+"/v1/events"+query, nil)
		if err != nil {
			return nil, 0, err
		}
		req.Close = true
		if user, password, ok := strings.Cut(auth, ":"); ok {
			req.SetBasicAuth(user, password)
		}
		res, err := client.Do(req)
		if err != nil {
			return nil, 0, err
		}
		var last struct {
			Event  json.RawMessage
			Cursor string
			More   bool
		}
		for s := bufio.NewScanner(res.Body); res.StatusCode == http.StatusOK && s.Scan(); {
			last.Event = nil
			if err := json.Unmarshal(s.Bytes(), &last); err != nil {
				return nil, 0, err
			}
			if last.Event != nil {
				lines = append(lines, string(last.Event))
			}
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusOK || !last.More {
			return lines, res.StatusCode, nil
		}
		query = "?limit=3&after=" + last.Cursor
	}
}

// waitfor REGEXP VERB...: in time a verb prints what matches.
func cmdWaitfor(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(eventually(patience, func() error {
		out, errs, err := of(ts).Verb(args[1:]...)
		if err != nil || !regexp.MustCompile(args[0]).Match(out) {
			return fmt.Errorf("%s says %s%s, wanted %s", strings.Join(args[1:], " "), out, errs, args[0])
		}
		return nil
	}))
}
