package main

import (
	"context"

	"qstream/tapper/vault/order"
)

// tapOrderApproveCmd approves an order.
type tapOrderApproveCmd struct{ answerFlags }

func (c *tapOrderApproveCmd) Run(ctx context.Context, p *Process) error {
	return c.answer(ctx, p, order.Approve)
}
