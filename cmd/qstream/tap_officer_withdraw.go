package main

import (
	"context"
	"fmt"

	"qstream/mail"
	"qstream/tapper/vault/order"
)

// tapOfficerWithdrawCmd takes back changes of the officers that were asked for
// and not approved.
type tapOfficerWithdrawCmd struct {
	officerFlags
	Name string `arg:"" help:"Who was to be added or removed."`
}

func (c *tapOfficerWithdrawCmd) Run(ctx context.Context, p *Process) error {
	o, hello, all, err := c.officers(ctx, p)
	if err != nil {
		return err
	}
	defer o.Close()
	found := false
	for _, pr := range all.Proposals {
		name := pr.Change.Remove
		if pr.Change.Add != nil {
			name = pr.Change.Add.Name
		}
		if name != c.Name || !pr.Open(hello.Now, hello.Changes) {
			continue
		}
		found = true
		if err := answerChange(ctx, p, o, order.Revoke, pr); err != nil {
			return err
		}
		fmt.Fprintf(p.Stdout, "withdrawn: %s, asked for by %s\n", changeText(pr.Change), said(pr.Requested))
	}
	if !found {
		return notFoundf("nothing about %s waits for a second officer; what does: qstream tap officer list", mail.Printable(c.Name))
	}
	return nil
}
