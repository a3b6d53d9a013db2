package main

import (
	"context"
	"fmt"

	"qstream/directory"
)

// diffCmd shows what applying files would change.
type diffCmd struct {
	System
	Files []string `arg:"" name:"file" help:"Documents, YAML; - is standard input."`
	Prune bool     `help:"Take the files for the whole directory."`
	JSON  bool     `name:"json" help:"Print JSON."`
}

func (c *diffCmd) Run(ctx context.Context, p *Process) error {
	docs, err := readDocuments(p, c.Files)
	if err != nil {
		return err
	}
	b, err := c.Open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	change := directory.Change{Documents: docs, Prune: c.Prune}
	done, err := directory.Apply(ctx, b, change, directory.Options{DryRun: true, Now: p.Now})
	if err != nil {
		return err
	}
	edits := directory.Edits(done.Before, done.After)
	if c.JSON {
		return printJSON(p.Stdout, jsonEdits(done, edits))
	}
	if len(edits) == 0 {
		fmt.Fprintf(p.Stdout, "no difference to directory number %d\n", done.Number)
	}
	printEdits(p.Stdout, edits, true)
	return nil
}

type diffJSON struct {
	Base  uint64         `json:"base"`
	Edits []fullEditJSON `json:"edits"`
}

type fullEditJSON struct {
	editJSON
	Old string `json:"old,omitempty"`
	New string `json:"new,omitempty"`
}

func jsonEdits(done directory.Applied, edits []directory.Edit) diffJSON {
	out := diffJSON{Base: done.Before.Number, Edits: []fullEditJSON{}}
	for _, e := range edits {
		out.Edits = append(out.Edits, fullEditJSON{editJSON{e.Action, e.Ref.Kind, e.Ref.Name}, e.Old, e.New})
	}
	return out
}
