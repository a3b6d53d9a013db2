package e2e

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"qstream/test/fakemx"
)

// sink is a scripted next hop of a scenario.
type sink struct {
	*fakemx.Server
	rules []fakemx.Rule
}

// sink NAME [-nodsn] [-lmtp]: start a next hop; $NAME is its address.
func cmdSink(ts *testscript.TestScript, neg bool, args []string) {
	cfg := fakemx.Config{Name: args[0] + ".example"}
	for _, a := range args[1:] {
		switch a {
		case "-nodsn":
			cfg.Extensions = []string{"PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES"}
		case "-lmtp":
			cfg.LMTP = true
		default:
			ts.Fatalf("sink: unknown flag %s", a)
		}
	}
	server, err := fakemx.Start(cfg)
	ts.Check(err)
	of(ts).sinks[args[0]] = &sink{Server: server}
	ts.Setenv(args[0], server.Addr())
}

// script NAME LINE REPLY [xN]: the next hop answers lines that begin with
// LINE so, the first N times or always. REPLY "usual" drops all its rules.
func cmdScript(ts *testscript.TestScript, neg bool, args []string) {
	k := of(ts).sinks[args[0]]
	if len(args) == 2 && args[1] == "usual" {
		k.rules = nil
		k.SetRules()
		return
	}
	r := fakemx.Rule{Line: args[1], Reply: args[2]}
	if len(args) > 3 {
		n, err := strconv.Atoi(strings.TrimPrefix(args[3], "x"))
		ts.Check(err)
		r.Times = n
	}
	k.rules = append(k.rules, r)
	k.SetRules(k.rules...)
}

// received NAME COUNT|recipients=N [DURATION] [content=FILE] [/REGEXP/...]:
// within a minute, or DURATION, the next hop has accepted exactly so many
// messages (or recipients), each pattern matched by one of them, one content
// ending in FILE's bytes.
func cmdReceived(ts *testscript.TestScript, neg bool, args []string) {
	k, want, within := of(ts).sinks[args[0]], args[1], patience
	var patterns []*regexp.Regexp
	var content []byte
	for _, a := range args[2:] {
		if d, err := time.ParseDuration(a); err == nil {
			within = d
		} else if file, ok := strings.CutPrefix(a, "content="); ok {
			b, err := os.ReadFile(ts.MkAbs(file))
			ts.Check(err)
			content = b
		} else {
			patterns = append(patterns, regexp.MustCompile("(?m)"+strings.Trim(a, "/")))
		}
	}
	ts.Check(eventually(within, func() error { return k.check(want, content, patterns) }))
}

func (k *sink) check(want string, content []byte, patterns []*regexp.Regexp) error {
	messages := k.Accepted()
	got := strconv.Itoa(len(messages))
	if strings.HasPrefix(want, "recipients=") {
		seen, total := map[string]bool{}, 0
		for _, m := range messages {
			total += len(m.Rcpts)
			for _, r := range m.Rcpts {
				seen[r] = true
			}
		}
		if total != len(seen) {
			return fmt.Errorf("%d recipients, only %d different: duplicates", total, len(seen))
		}
		got = "recipients=" + strconv.Itoa(total)
	}
	if got != want {
		return fmt.Errorf("accepted %s, wanted %s", got, want)
	}
	if content != nil && !slices.ContainsFunc(messages, func(m fakemx.Message) bool { return bytes.HasSuffix(m.Data, content) }) {
		return fmt.Errorf("none of %d messages ends in the %d bytes that were sent", len(messages), len(content))
	}
	for _, p := range patterns {
		if !anyMatches(messages, p) {
			return fmt.Errorf("none of %s messages matches %s: %s", got, p, show(messages))
		}
	}
	return nil
}

func anyMatches(messages []fakemx.Message, p *regexp.Regexp) bool {
	for _, m := range messages {
		if p.Match(text(m)) {
			return true
		}
	}
	return false
}

// text is a message as patterns see it: its envelope, then its content with
// plain line ends.
func text(m fakemx.Message) []byte {
	head := fmt.Sprintf("MAIL FROM:<%s> %s\nRCPT TO:<%s>\n", m.From, m.FromParams, strings.Join(m.Rcpts, ">\nRCPT TO:<"))
	return append([]byte(head), bytes.ReplaceAll(m.Data, []byte("\r\n"), []byte("\n"))...)
}

func show(messages []fakemx.Message) string {
	var b strings.Builder
	for _, m := range messages {
		b.Write(text(m)[:min(len(text(m)), 3000)])
		b.WriteString("\n=====\n")
	}
	return b.String()
}
