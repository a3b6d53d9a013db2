package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"text/tabwriter"

	"qstream/mail"
	"qstream/tapper/vault/office"
	"qstream/tapper/vault/order"
)

// tapOfficerCmd are the verbs about officers.
type tapOfficerCmd struct {
	New    tapOfficerNewCmd    `cmd:"" help:"Make an officer's key: FILE, which is secret, and FILE.pub."`
	List   tapOfficerListCmd   `cmd:"" help:"List the officers, and changes that wait for a second one."`
	Add    tapOfficerAddCmd    `cmd:"" help:"Add an officer: counts once a second officer does the same."`
	Remove tapOfficerRemoveCmd `cmd:"" help:"Remove an officer: counts once a second officer does the same."`

	Withdraw tapOfficerWithdrawCmd `cmd:"" help:"Take back what waits for a second officer; one is enough."`
}

// tapOfficerListCmd lists the officers.
type tapOfficerListCmd struct {
	officerFlags
	JSON bool `name:"json" help:"Print JSON."`
}

func (c *tapOfficerListCmd) Run(ctx context.Context, p *Process) error {
	o, hello, all, err := c.officers(ctx, p)
	if err != nil {
		return err
	}
	defer o.Close()
	if c.JSON {
		return printJSON(p.Stdout, all)
	}
	t := tabwriter.NewWriter(p.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "OFFICER\tKEY")
	for _, o := range all.Officers {
		fmt.Fprintf(t, "%s\t%s\n", mail.Printable(o.Name), o.Fingerprint())
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, pr := range all.Proposals {
		if pr.Open(hello.Now, hello.Changes) {
			fmt.Fprintf(p.Stdout, "waits for a second officer: %s, asked for by %s\n", changeText(pr.Change), said(pr.Requested))
		}
	}
	return nil
}

// officers asks the office for the officers and the changes of them. The caller
// closes the client.
func (f officerFlags) officers(ctx context.Context, p *Process) (*office.Client, office.Hello, office.OfficersAnswer, error) {
	var all office.OfficersAnswer
	o, hello, err := f.open(ctx, p)
	if err != nil {
		return nil, hello, all, err
	}
	if err := o.Ask(ctx, office.VerbOfficers, nil, &all); err != nil {
		o.Close()
		return nil, hello, all, officeError(err)
	}
	return o, hello, all, nil
}

func changeText(c order.Change) string {
	if c.Add != nil {
		return fmt.Sprintf("add %s, key %s", c.Add.Name, c.Add.Fingerprint())
	}
	return "remove " + c.Remove
}

// agree asks for a change of the officers, or approves it if another officer has
// asked for the same: nobody has to copy an id.
func (f officerFlags) agree(ctx context.Context, p *Process, c order.Change) error {
	o, hello, all, err := f.officers(ctx, p)
	if err != nil {
		return err
	}
	defer o.Close()
	if err := fits(c, all.Officers); err != nil {
		return err
	}
	for _, pr := range all.Proposals {
		if !pr.Open(hello.Now, hello.Changes) || pr.Requested.By == f.As || !sameChange(pr.Change, c) {
			continue
		}
		if err := answerChange(ctx, p, o, order.Approve, pr); err != nil {
			return err
		}
		fmt.Fprintf(p.Stdout, "done: %s, as %s asked for\n", changeText(c), pr.Requested.By)
		return nil
	}
	c.ID, c.Base = mail.NewID(p.Now()), hello.Changes
	s, err := o.Signer().RequestChange(p.Now(), c)
	if err != nil {
		return usagef("%w", err)
	}
	if _, err := o.Say(ctx, s); err != nil {
		return officeError(err)
	}
	fmt.Fprintf(p.Stdout, "asked for: %s; a second officer has to do the same within 7 days\n", changeText(c))
	return nil
}

// fits says what is wrong with a change of these officers before it is signed.
func fits(c order.Change, officers []order.Officer) error {
	name := c.Remove
	if c.Add != nil {
		name = c.Add.Name
	}
	at := slices.IndexFunc(officers, func(o order.Officer) bool { return o.Name == name })
	switch {
	case c.Add == nil && at < 0:
		return notFoundf("the vault has no officer %s; those it has: qstream tap officer list", mail.Printable(name))
	case c.Add != nil && at >= 0:
		return fmt.Errorf("the vault has an officer %s already, key %s; remove that one first, or take another name", mail.Printable(name), officers[at].Fingerprint())
	}
	return nil
}

// answerChange approves or revokes what an officer asked for.
func answerChange(ctx context.Context, p *Process, o *office.Client, verb string, pr *order.Proposal) error {
	text, err := pr.Change.Canonical()
	if err != nil {
		return err
	}
	s, err := o.Signer().Answer(p.Now(), verb, order.SubjectOfficer, pr.Change.ID, order.Hash(text))
	if err != nil {
		return err
	}
	_, err = o.Say(ctx, s)
	return officeError(err)
}

// sameChange is whether two officers mean the same.
func sameChange(a, b order.Change) bool {
	a.ID, a.Base, b.ID, b.Base = "", 0, "", 0
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}
