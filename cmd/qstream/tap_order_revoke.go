package main

import (
	"context"

	"qstream/tapper/vault/order"
)

// tapOrderRevokeCmd ends an order.
type tapOrderRevokeCmd struct{ answerFlags }

func (c *tapOrderRevokeCmd) Run(ctx context.Context, p *Process) error {
	return c.answer(ctx, p, order.Revoke)
}
