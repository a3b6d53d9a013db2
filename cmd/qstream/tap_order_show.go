package main

import (
	"context"
	"fmt"

	"qstream/mail"
	"qstream/tapper/vault/office"
)

// tapOrderShowCmd shows an order.
type tapOrderShowCmd struct {
	officerFlags
	ID   string `arg:"" help:"The order's id."`
	JSON bool   `name:"json" help:"Print JSON."`
}

func (c *tapOrderShowCmd) Run(ctx context.Context, p *Process) error {
	var o office.Order
	if err := c.askOrder(ctx, p, office.VerbOrder, c.ID, &o); err != nil {
		return err
	}
	if o.Tap == nil {
		return fmt.Errorf("the office's answer has no order")
	}
	if c.JSON {
		return printJSON(p.Stdout, o)
	}
	text, err := o.Order.YAML()
	if err != nil {
		return err
	}
	fmt.Fprintf(p.Stdout, "# order %s is %s\n# hash %s\n", o.Order.ID, o.State, mail.Printable(o.Hash))
	fmt.Fprintf(p.Stdout, "# requested %s\n# approved %s\n# revoked %s\n%s", said(o.Requested), said(o.Approved), said(o.Revoked), text)
	return nil
}
