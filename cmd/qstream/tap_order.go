package main

import (
	"context"
	"fmt"

	"qstream/mail"
	"qstream/tapper/vault/office"
	"qstream/tapper/vault/order"
)

// tapOrderCmd are the verbs about orders.
type tapOrderCmd struct {
	Request tapOrderRequestCmd `cmd:"" help:"Ask for orders; each is in force once another officer approves it."`
	Approve tapOrderApproveCmd `cmd:"" help:"Approve an order that another officer asked for."`
	Revoke  tapOrderRevokeCmd  `cmd:"" help:"End an order at once, or take back what waits for approval."`
	List    tapOrderListCmd    `cmd:"" help:"List orders."`
	Show    tapOrderShowCmd    `cmd:"" help:"Show an order, and who said what about it."`
}

// answerFlags are those of who answers to an order.
type answerFlags struct {
	officerFlags
	ID   string `arg:"" help:"The order's id."`
	Hash string `placeholder:"HEX" help:"Only if this is its hash, as show tells it."`
}

// answer signs what the office shows: the hash is made here, of the octets that
// are shown here.
func (f answerFlags) answer(ctx context.Context, p *Process, verb string) error {
	c, _, err := f.open(ctx, p)
	if err != nil {
		return err
	}
	defer c.Close()
	var o office.Order
	if err := c.Ask(ctx, office.VerbOrder, office.IDArgs{ID: typedID(f.ID)}, &o); err != nil {
		return noOrder(officeError(err), f.ID)
	}
	if o.Tap == nil {
		return fmt.Errorf("the office's answer has no order")
	}
	done, err := o.Order.Complete()
	if err != nil {
		return err
	}
	text, err := done.Canonical()
	if err != nil {
		return err
	}
	hash := order.Hash(text)
	if f.Hash != "" && f.Hash != hash {
		return fmt.Errorf("the hash of order %s is %s, not %s: it is another one than you mean; read it again: qstream tap order show", done.ID, hash, mail.Printable(f.Hash))
	}
	s, err := c.Signer().Answer(p.Now(), verb, order.SubjectOrder, done.ID, hash)
	if err != nil {
		return err
	}
	said, err := c.Say(ctx, s)
	if err != nil {
		return officeError(err)
	}
	fmt.Fprintf(p.Stdout, "%s is %s\n", said.ID, said.State)
	return nil
}
