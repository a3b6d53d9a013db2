package e2e

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// post [-auth USER:PASSWORD] [-key KEY] [-type TYPE] [-local] QUERY FILE STATUS: post a file's text, variables
// expanded, to the edge's HTTP service, or with -local to the listener of up for this host; again while the
// answer is 409. The answer goes to stdout, the id to $ID. With "!": there is no answer at all.
func cmdPost(ts *testscript.TestScript, neg bool, args []string) {
	s := of(ts)
	flags := flag.NewFlagSet("post", flag.ContinueOnError)
	auth := flags.String("auth", "", "")
	key := flags.String("key", "", "")
	kind := flags.String("type", "message/rfc822", "")
	local := flags.Bool("local", false, "")
	ts.Check(flags.Parse(args))
	base := "http://" + ts.Getenv("POST")
	if *local {
		base = "http://" + s.Process("up").HTTP
	}
	var body []byte
	ts.Check(eventually(patience, func() error {
		req, err := http.NewRequest(http.MethodPost, base+"/v1/messages"+flags.Arg(0), strings.NewReader(ts.ReadFile(flags.Arg(1))))
		if err != nil {
			return err
		}
		req.Close = true
		req.Header.Set("Content-Type", *kind)
		if *key != "" {
			req.Header.Set("Idempotency-Key", *key)
		}
		if user, password, ok := strings.Cut(*auth, ":"); ok {
			req.SetBasicAuth(user, password)
		}
		client := &http.Client{Timeout: time.Minute}
		res, err := client.Do(req)
		if neg {
			if err == nil {
				ts.Fatalf("answered by %s", res.Status)
			}
			return nil
		}
		ts.Check(err)
		defer res.Body.Close()
		if body, err = io.ReadAll(res.Body); err != nil {
			return err
		}
		if res.StatusCode == http.StatusConflict {
			return fmt.Errorf("still 409: %s", body)
		}
		if fmt.Sprint(res.StatusCode) != flags.Arg(2) {
			ts.Fatalf("answered by %s: %s", res.Status, body)
		}
		return nil
	}))
	_, _ = ts.Stdout().Write(body)
	var answer struct{ ID string }
	if json.Unmarshal(body, &answer) == nil && answer.ID != "" {
		s.last = answer.ID
		ts.Setenv("ID", answer.ID)
	}
}

// failpoint [NAME:COUNT]: the process that "again" starts is killed there; without, nowhere any more.
func cmdFailpoint(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 {
		of(ts).SetEnv("up")
		return
	}
	of(ts).SetEnv("up", "QSTREAM_FAILPOINT="+args[0])
}
