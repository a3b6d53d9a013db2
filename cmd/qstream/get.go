package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"qstream/bus"
	"qstream/directory"
	"qstream/mail"
)

// getCmd shows documents of the directory, or its history.
type getCmd struct {
	System
	What    string  `arg:"" optional:"" placeholder:"KIND[/NAME]" help:"queue, tenant, route, policy, rules, site or credential; queue/acme. Default: everything."`
	Number  *uint64 `placeholder:"NUMBER" help:"The directory as it was at this number."`
	History bool    `help:"Who changed what and when, instead of the documents."`
	JSON    bool    `name:"json" help:"Print JSON."`
}

func (c *getCmd) Run(ctx context.Context, p *Process) error {
	if c.History && c.Number != nil {
		return usagef("--history shows every number: leave --number out")
	}
	kind, name, single := strings.Cut(c.What, "/")
	if _, ok := directory.ParseRef(kind + "/x"); c.What != "" && !ok {
		return usagef("there is no kind of document %q: say queue, tenant, route, policy, rules, site or credential", kind)
	}
	wanted := func(r directory.Ref) bool {
		return (kind == "" || r.Kind == kind) && (!single || r.Name == name)
	}
	b, err := c.Open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	if c.History {
		return c.history(ctx, p.Stdout, b, wanted)
	}
	s, err := c.snapshot(ctx, b)
	if err != nil {
		return err
	}
	var docs []directory.Document
	for _, d := range s.Documents() {
		if wanted(d.Ref) {
			docs = append(docs, d)
		}
	}
	if single && len(docs) == 0 {
		return notFoundf("there is no %s", mail.Printable(c.What))
	}
	return c.print(p.Stdout, s.Number, docs)
}

func (c *getCmd) snapshot(ctx context.Context, b *bus.Bus) (*directory.Snapshot, error) {
	if c.Number != nil {
		s, err := directory.ReadNumber(ctx, b, *c.Number)
		if errors.Is(err, directory.ErrNoNumber) {
			return nil, notFoundf("%w", err)
		}
		return s, err
	}
	return directory.Read(ctx, b)
}

func (c *getCmd) print(w io.Writer, number uint64, docs []directory.Document) error {
	if !c.JSON {
		fmt.Fprintf(w, "# directory number %d\n", number)
		for _, d := range docs {
			fmt.Fprintf(w, "---\n%s", d.YAML)
		}
		return nil
	}
	list := make([]json.RawMessage, len(docs))
	for i, d := range docs {
		text, err := yaml.YAMLToJSON([]byte(d.YAML))
		if err != nil {
			return fmt.Errorf("%s as JSON: %w", d.Ref, err)
		}
		list[i] = text
	}
	return printJSON(w, struct {
		Number    uint64            `json:"number"`
		Documents []json.RawMessage `json:"documents"`
	}{number, list})
}

// pastJSON is one apply of the history as JSON.
type pastJSON struct {
	Number uint64     `json:"number"`
	At     time.Time  `json:"at"`
	Actor  string     `json:"actor"`
	Note   string     `json:"note,omitempty"`
	Edits  []editJSON `json:"edits"`
}

type editJSON struct {
	Action directory.Action `json:"action"`
	Kind   string           `json:"kind"`
	Name   string           `json:"name"`
}

func (c *getCmd) history(ctx context.Context, w io.Writer, b *bus.Bus, wanted func(directory.Ref) bool) error {
	return directory.History(ctx, b, func(past directory.Past) error {
		out := pastJSON{Number: past.Number, At: past.At.UTC(), Actor: past.Actor, Note: past.Note}
		var names []string
		for _, e := range past.Edits {
			if wanted(e.Ref) {
				out.Edits = append(out.Edits, editJSON{e.Action, e.Ref.Kind, e.Ref.Name})
				names = append(names, string(e.Action)+" "+e.Ref.String())
			}
		}
		switch {
		case len(names) == 0:
			return nil
		case c.JSON:
			return json.NewEncoder(w).Encode(out)
		}
		line := fmt.Sprintf("%d  %s  %s  %s", past.Number, past.At.Format(time.RFC3339), past.Actor, strings.Join(names, ", "))
		if past.Note != "" {
			line += "  # " + past.Note
		}
		_, err := fmt.Fprintln(w, line)
		return err
	})
}

// printJSON prints a value, indented.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
