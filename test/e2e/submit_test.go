package e2e

import (
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"qstream/test/rig"
)

// submit [-from A] [-to A,B] [-mail "PARAMS"] [-rcpt "PARAMS"] [-auth USER:PASSWORD] [-size BYTES]
// [-many RECIPIENTSxDOMAINS] [FILE]: hand a mail in by SMTP. The replies go to stdout, the id to $ID.
// With "!": the message must not be accepted.
func cmdSubmit(ts *testscript.TestScript, neg bool, args []string) {
	s := of(ts)
	flags := flag.NewFlagSet("submit", flag.ContinueOnError)
	from := flags.String("from", "alice@client.example", "")
	to := flags.String("to", "", "")
	mailArgs := flags.String("mail", "", "")
	auth := flags.String("auth", "", "")
	rcptArg := flags.String("rcpt", "", "")
	size := flags.Int("size", 0, "")
	many := flags.String("many", "", "")
	ts.Check(flags.Parse(args))
	if *many != "" {
		*to = spread(ts, *many)
	}
	m := rig.Message{From: *from, To: *to, MailArgs: *mailArgs, RcptArgs: *rcptArg, Auth: *auth}
	switch {
	case flags.NArg() > 0:
		m.Content = []byte(strings.ReplaceAll(ts.ReadFile(flags.Arg(0)), "\n", "\r\n"))
	case *size > 0:
		m.Content = rig.Sized(*size)
		ts.Check(os.WriteFile(ts.MkAbs("sized.eml"), m.Content, 0o644))
	default:
		m.Content = []byte("From: <" + *from + ">\r\nTo: undisclosed-recipients:;\r\nSubject: a test\r\n" +
			"Message-ID: <" + rig.Token() + "@client.example>\r\n\r\nThe quick brown fox.\r\n")
	}
	id, err := rig.Hand(s.SMTP, m, ts.Stdout())
	if (err != nil) != neg {
		ts.Fatalf("submit %v: %v", args, err)
	}
	if err == nil {
		s.last = id
		ts.Setenv("ID", id)
	}
}

// spread is a list of recipients over domains: "1000x50".
func spread(ts *testscript.TestScript, many string) string {
	var recipients, domains int
	_, err := fmt.Sscanf(many, "%dx%d", &recipients, &domains)
	ts.Check(err)
	var to []string
	for i := range recipients {
		to = append(to, fmt.Sprintf("user%d@d%d.many.example", i, i%domains))
	}
	return strings.Join(to, ",")
}
