package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"qstream/ledger"
)

// queueListCmd counts what waits.
type queueListCmd struct {
	Place
	By []string `placeholder:"COLUMN" default:"queue" help:"Group by these: tenant, queue, destination, reason, place, host (default: ${default})."`
	legFlags
	JSON bool `name:"json" help:"Print JSON."`

	// waiting leaves out groups in which nothing waits, that have only rates.
	waiting bool
}

func (c *queueListCmd) Run(ctx context.Context, p *Process) error {
	q := c.query()
	q["by"] = c.By
	var found ledger.Groups
	if err := c.ask(ctx, "/v1/queue/groups", q, &found); err != nil {
		return err
	}
	stale(p.Stderr, found.Fresh)
	if c.waiting {
		found.Groups = slices.DeleteFunc(found.Groups, func(g ledger.Group) bool { return g.Legs == 0 })
	}
	if c.JSON {
		if err := printJSON(p.Stdout, found); err != nil {
			return err
		}
	}
	if len(found.Groups) == 0 {
		return notFoundf("nothing waits")
	}
	if c.JSON {
		return nil
	}
	if err := groupTable(p.Stdout, found.By, found.Groups, p.Now()); err != nil {
		return err
	}
	if found.More {
		fmt.Fprintf(p.Stderr, "only the largest %d are shown; more by --limit\n", len(found.Groups))
	}
	return nil
}

// groupTable prints groups; rates only where they are known.
func groupTable(w io.Writer, by []string, groups []ledger.Group, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	rated := groups[0].Rates != nil
	head := []string{}
	for _, c := range by {
		head = append(head, strings.ToUpper(c))
	}
	head = append(head, "LEGS", "RECIPIENTS", "OLDEST")
	if rated {
		head = append(head, "IN/MIN", "OUT/MIN", "DEFERRED/MIN")
	}
	fmt.Fprintln(t, strings.Join(append(head, "WAITING FOR", "LAST REPLY"), "\t"))
	for _, g := range groups {
		var row []string
		for _, c := range by {
			row = append(row, shown(g.Keys[c]))
		}
		oldest := "-"
		if g.Oldest != nil {
			oldest = age(*g.Oldest, now)
		}
		row = append(row, fmt.Sprint(g.Legs), fmt.Sprint(g.Recipients), oldest)
		if rated && g.Rates != nil {
			row = append(row, rate(g.Rates.In), rate(g.Rates.Out), rate(g.Rates.Deferred))
		}
		fmt.Fprintln(t, strings.Join(append(row, reasons(g.Reasons), mostReplied(g.Reply)), "\t"))
	}
	return t.Flush()
}

func rate(perMinute float64) string { return fmt.Sprintf("%.1f", perMinute) }

// reasons are why legs wait, the most common first.
func reasons(count map[string]int) string {
	words := slices.SortedFunc(maps.Keys(count), func(a, b string) int {
		if count[a] != count[b] {
			return count[b] - count[a]
		}
		return strings.Compare(a, b)
	})
	for i, word := range words {
		words[i] = fmt.Sprintf("%s %d", word, count[word])
	}
	return shown(strings.Join(words, ", "))
}

func mostReplied(r *ledger.Reply) string {
	if r == nil {
		return "-"
	}
	return fmt.Sprintf("%s (%d)", shown(r.Text), r.Legs)
}
