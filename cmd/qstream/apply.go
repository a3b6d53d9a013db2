package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/user"

	"qstream/directory"
)

// applyCmd changes the directory.
type applyCmd struct {
	System
	Files  []string `arg:"" optional:"" name:"file" help:"Documents, YAML; - is standard input."`
	File   []string `short:"f" placeholder:"FILE" help:"The same, as a flag."`
	Delete []string `placeholder:"KIND/NAME" help:"Delete a document."`
	Prune  bool     `help:"Delete every document that isn't in the files: they are the whole directory."`
	DryRun bool     `help:"Check everything and show what would change, but change nothing."`
	Base   *uint64  `placeholder:"NUMBER" help:"Refuse if the directory isn't at this number (default: whatever it is at)."`
	Note   string   `placeholder:"TEXT" help:"Why, for the history."`
}

func (c *applyCmd) Run(ctx context.Context, p *Process) error {
	change := directory.Change{Prune: c.Prune}
	for _, name := range c.Delete {
		ref, ok := directory.ParseRef(name)
		if !ok {
			return usagef("--delete %s: want kind/name, such as queue/acme", name)
		}
		change.Delete = append(change.Delete, ref)
	}
	names := append(c.Files, c.File...)
	if len(names) == 0 && len(change.Delete) == 0 {
		return usagef("nothing to apply: name a file, or --delete")
	}
	var err error
	if change.Documents, err = readDocuments(p, names); err != nil {
		return err
	}
	b, err := c.Open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	done, err := directory.Apply(ctx, b, change, directory.Options{
		Base: c.Base, Actor: actor(), Note: c.Note, DryRun: c.DryRun, Now: p.Now,
	})
	if err != nil {
		return err
	}
	c.print(p.Stdout, done)
	return nil
}

func (c *applyCmd) print(w io.Writer, done directory.Applied) {
	if !done.Changed {
		fmt.Fprintf(w, "nothing changes; the directory is at number %d\n", done.Number)
		return
	}
	printEdits(w, directory.Edits(done.Before, done.After), c.DryRun)
	for _, topic := range done.Created {
		fmt.Fprintln(w, "created topic", topic)
	}
	if c.DryRun {
		fmt.Fprintf(w, "dry run: nothing was changed; it would be number %d\n", done.Number)
		return
	}
	fmt.Fprintf(w, "applied: the directory is at number %d\n", done.Number)
}

// printEdits shows edits, with the lines that differ if full.
func printEdits(w io.Writer, edits []directory.Edit, full bool) {
	for _, e := range edits {
		if full {
			fmt.Fprint(w, e)
		} else {
			fmt.Fprintln(w, e.Action, e.Ref)
		}
	}
}

// readDocuments reads and parses files.
func readDocuments(p *Process, names []string) ([]directory.Document, error) {
	files := make([]directory.File, len(names))
	for i, name := range names {
		var err error
		if files[i].Name = name; name == "-" {
			files[i].Name = "standard input"
			files[i].Data, err = io.ReadAll(p.Stdin)
		} else {
			files[i].Data, err = os.ReadFile(name)
		}
		if err != nil {
			return nil, fmt.Errorf("read documents: %w", err)
		}
	}
	return directory.Parse(files...)
}

// actor is who gives a command, for histories.
func actor() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}
