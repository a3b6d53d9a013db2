package e2e

import (
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"qstream/test/fakeqm"
)

// qmsink NAME [-qmqp] [ADDRESS=ANSWER...]: start a next hop that speaks QMTP, or
// QMQP; $NAME is its address.
func cmdQmsink(ts *testscript.TestScript, neg bool, args []string) {
	cfg, answers := fakeqm.Config{}, map[string]string{}
	for _, a := range args[1:] {
		if to, answer, ok := strings.Cut(a, "="); ok {
			answers[to] = answer
		} else {
			cfg.QMQP = a == "-qmqp"
		}
	}
	cfg.Answer = func(to string) string {
		if answer, ok := answers[to]; ok {
			return answer
		}
		return "Kok"
	}
	k, err := fakeqm.Start(cfg)
	ts.Check(err)
	ts.Defer(k.Close)
	of(ts).qmsinks[args[0]] = k
	ts.Setenv(args[0], "127.0.0.1:"+strconv.Itoa(k.Port()))
}

// qmreceived NAME COUNT [/REGEXP/...]: within a minute so many messages came
// whole, the last one matched by each pattern.
func cmdQmreceived(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	ts.Check(eventually(patience, func() error {
		all := of(ts).qmsinks[args[0]].Messages()
		if len(all) != want {
			return fmt.Errorf("%s has %d messages, want %d", args[0], len(all), want)
		}
		if want == 0 {
			return nil
		}
		m := all[len(all)-1]
		text := fmt.Sprintf("from %s\nto %s\n%s", m.From, strings.Join(m.To, " "), m.Content)
		for _, p := range args[2:] {
			if !regexp.MustCompile("(?m)" + strings.Trim(p, "/")).MatchString(text) {
				return fmt.Errorf("%s doesn't match\n%s", p, text)
			}
		}
		return nil
	}))
}

// qmsubmit qmqp|qmtp FROM TO,TO [FILE]: hand a mail in by QMQP or QMTP, with
// lines that end in LF. The answers go to stdout, the id of the first to $ID.
func cmdQmsubmit(ts *testscript.TestScript, neg bool, args []string) {
	text := "Subject: a test\n\nThe quick brown fox.\n"
	if len(args) > 3 {
		text = ts.ReadFile(args[3])
	}
	net1 := func(s string) string { return fmt.Sprintf("%d:%s,", len(s), s) }
	var to string
	for _, a := range strings.Split(args[2], ",") {
		to += net1(a)
	}
	addr, request := of(ts).QMTP, net1("\n"+text)+net1(args[1])+net1(to)
	if args[0] == "qmqp" {
		addr, request = of(ts).QMQP, net1(net1(text)+net1(args[1])+to)
	}
	c, err := net.Dial("tcp", addr)
	ts.Check(err)
	defer c.Close()
	ts.Check(c.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(c, request)
	ts.Check(err)
	if args[0] == "qmtp" {
		ts.Check(c.(*net.TCPConn).CloseWrite())
	}
	answers, err := io.ReadAll(c)
	ts.Check(err)
	fmt.Fprintln(ts.Stdout(), string(answers))
	if m := regexp.MustCompile(`qp ([0-9A-Z]{26})`).FindSubmatch(answers); m != nil {
		of(ts).last = string(m[1])
		ts.Setenv("ID", string(m[1]))
	} else if !neg {
		ts.Fatalf("%s: %q", args[0], answers)
	}
}
