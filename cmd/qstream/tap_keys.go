package main

import (
	"context"
	"fmt"

	"qstream/tapper/vault/office"
)

// tapKeysCmd are the verbs about the vault's keys.
type tapKeysCmd struct {
	List   tapKeysListCmd   `cmd:"" help:"List the numbers of the keys."`
	Rotate tapKeysRotateCmd `cmd:"" help:"Make another key; it seals once every tapper has it and is started again."`
}

// tapKeysListCmd lists the keys.
type tapKeysListCmd struct {
	officerFlags
	JSON bool `name:"json" help:"Print JSON."`
}

func (c *tapKeysListCmd) Run(ctx context.Context, p *Process) error {
	var numbers []uint32
	if err := c.ask(ctx, p, office.VerbKeys, nil, &numbers); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(p.Stdout, numbers)
	}
	for _, n := range numbers {
		fmt.Fprintf(p.Stdout, "key.%d\n", n)
	}
	return nil
}
