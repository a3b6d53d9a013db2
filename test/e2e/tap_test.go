package e2e

import (
	"encoding/json"

	"github.com/rogpeppe/go-internal/testscript"
)

// tapped VARIABLE OFFICER: the id of the newest order that has not ended, as an
// officer with the key OFFICER.pem sees it.
func cmdTapped(ts *testscript.TestScript, neg bool, args []string) {
	out := verb(ts, neg, []string{
		"tap", "order", "list", "--json", "--vault", ts.MkAbs("vault"), "--as", args[1], "--key", ts.MkAbs(args[1] + ".pem"),
	})
	var orders []struct {
		Order struct {
			ID string `json:"id"`
		} `json:"order"`
	}
	ts.Check(json.Unmarshal(out, &orders))
	if len(orders) == 0 {
		ts.Fatalf("no order")
	}
	ts.Setenv(args[0], orders[len(orders)-1].Order.ID)
}
