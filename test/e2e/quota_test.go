package e2e

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"qstream/test/rig"
)

// offer hands a small mail in and returns the dialogue.
func offer(s *system, args []string) (dialogue string, err error) {
	m := rig.Message{From: "alice@client.example", Content: []byte("Subject: a test\r\n\r\nThe quick brown fox.\r\n")}
	for i := 0; i+1 < len(args); i += 2 {
		switch args[i] {
		case "-from":
			m.From = args[i+1]
		case "-to":
			m.To = args[i+1]
		default:
			return "", fmt.Errorf("unknown flag %s", args[i])
		}
	}
	var log bytes.Buffer
	_, err = rig.Hand(s.SMTP, m, &log)
	return log.String(), err
}

// refused TEXT [-from A] [-to A,B]: in time a mail is refused, with a reply
// that has the text. Those before it may be taken.
func cmdRefused(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(eventually(patience, func() error {
		said, err := offer(of(ts), args[1:])
		if err == nil || !strings.Contains(said, args[0]) {
			return fmt.Errorf("not refused with %q: %v\n%s", args[0], err, said)
		}
		return nil
	}))
}

// taken [-from A] [-to A,B]: in time a mail is taken.
func cmdTaken(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(eventually(patience, func() error {
		said, err := offer(of(ts), args)
		if err != nil {
			return fmt.Errorf("not taken: %w\n%s", err, said)
		}
		return nil
	}))
}
