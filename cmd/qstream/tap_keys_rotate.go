package main

import (
	"context"
	"fmt"

	"qstream/tapper/vault/office"
)

// tapKeysRotateCmd makes a new key in the vault's folder.
type tapKeysRotateCmd struct{ officerFlags }

func (c *tapKeysRotateCmd) Run(ctx context.Context, p *Process) error {
	var numbers []uint32
	if err := c.ask(ctx, p, office.VerbRotate, nil, &numbers); err != nil {
		return err
	}
	if len(numbers) == 0 {
		return fmt.Errorf("the office's answer has no keys")
	}
	fmt.Fprintf(p.Stdout, "key.%d is in the vault's folder: copy it to every tapper's, then start them again; keep the old ones\n", numbers[len(numbers)-1])
	return nil
}
