package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"qstream/tapper/vault/office"
)

// tapOrderListCmd lists orders.
type tapOrderListCmd struct {
	officerFlags
	Ended bool `help:"Those that ended, too."`
	JSON  bool `name:"json" help:"Print JSON."`
}

func (c *tapOrderListCmd) Run(ctx context.Context, p *Process) error {
	var all []office.Order
	if err := c.ask(ctx, p, office.VerbOrders, office.OrdersArgs{Ended: c.Ended}, &all); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(p.Stdout, all)
	}
	t := tabwriter.NewWriter(p.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ORDER\tSTATE\tFROM\tUNTIL\tWHAT\tWHO\tREFERENCE\tREQUESTED\tAPPROVED\tREVOKED")
	for _, o := range all {
		who := andMore(about(o.Order.Who[0]), len(o.Order.Who))
		fmt.Fprintln(t, strings.Join([]string{
			o.Order.ID, o.State, o.Order.From.Format(time.RFC3339), o.Order.Until.Format(time.RFC3339), o.Order.What, who, shown(o.Order.Reference),
			said(o.Requested), said(o.Approved), said(o.Revoked),
		}, "\t"))
	}
	fmt.Fprintln(t, plural(len(all), "order"))
	return t.Flush()
}
