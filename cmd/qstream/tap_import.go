package main

import (
	"context"
	"fmt"
	"os"

	"qstream/qmail"
	"qstream/tapper/vault/order"
)

// tapImportCmd makes drafts. It asks nothing of a system.
type tapImportCmd struct {
	File string `arg:"" type:"existingfile" help:"A file as control/taps: lines F:regex:address, T:..., A:..., or regex:address."`
	JSON bool   `name:"json" help:"Print JSON."`
}

func (c *tapImportCmd) Run(_ context.Context, p *Process) error {
	text, err := os.ReadFile(c.File)
	if err != nil {
		return err
	}
	taps, err := qmail.ParseTaps(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	drafts := order.Import(taps)
	if c.JSON {
		return printJSON(p.Stdout, drafts)
	}
	fmt.Fprintf(p.Stdout, "# Drafts from %s. Nothing is in force: complete them, then tap order request.\n# %s\n", c.File, order.FirstOnly)
	warnings := 0
	for _, d := range drafts {
		warnings += len(d.Warnings)
		fmt.Fprintf(p.Stdout, "---\n%s", d.YAML())
	}
	fmt.Fprintf(p.Stderr, "%s, %s\n", plural(len(drafts), "line"), plural(warnings, "warning"))
	return nil
}
