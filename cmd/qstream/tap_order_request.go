package main

import (
	"context"
	"fmt"
	"os"

	"qstream/tapper/vault/order"
)

// tapOrderRequestCmd asks for orders.
type tapOrderRequestCmd struct {
	officerFlags
	File string `arg:"" type:"existingfile" help:"Documents of orders, YAML; see docs/tapping.md."`
}

func (c *tapOrderRequestCmd) Run(ctx context.Context, p *Process) error {
	text, err := os.ReadFile(c.File)
	if err != nil {
		return err
	}
	orders, err := order.Parse(text, p.Now())
	if err != nil {
		return usagef("%s: %w", c.File, err)
	}
	o, _, err := c.open(ctx, p)
	if err != nil {
		return err
	}
	defer o.Close()
	for i, ord := range orders {
		s, err := o.Signer().RequestOrder(p.Now(), ord)
		if err != nil {
			return usagef("%w", err)
		}
		said, err := o.Say(ctx, s)
		if err != nil {
			return fmt.Errorf("%d of %d orders are asked for: %w", i, len(orders), officeError(err))
		}
		fmt.Fprintf(p.Stdout, "%s is %s\n", said.ID, said.State)
	}
	return nil
}
