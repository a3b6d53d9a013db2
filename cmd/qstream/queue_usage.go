package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"qstream/directory"
	"qstream/ingest/quota"
)

// queueUsageCmd shows what quotas are used.
type queueUsageCmd struct {
	System
	Tenant string `placeholder:"NAME" help:"Of this tenant and its users."`
	JSON   bool   `name:"json" help:"Print JSON."`
}

func (c *queueUsageCmd) Run(ctx context.Context, p *Process) error {
	b, err := c.Open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	snap, err := directory.Read(ctx, b)
	if err != nil {
		return err
	}
	all, err := quota.Read(ctx, b, snap, p.Now)
	if err != nil {
		return err
	}
	shown := []quota.Usage{}
	for _, u := range all {
		if c.Tenant == "" || u.Tenant == c.Tenant {
			shown = append(shown, u)
		}
	}
	if c.JSON {
		if err := printJSON(p.Stdout, shown); err != nil {
			return err
		}
	}
	if len(shown) == 0 {
		return notFoundf("nobody has a quota")
	}
	if c.JSON {
		return nil
	}
	return usageTable(p.Stdout, shown)
}

// usageTable prints what is used of the last hour and of what waits, each with
// its limit.
func usageTable(w io.Writer, all []quota.Usage) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "TENANT\tUSER\tWHAT\tMESSAGES\tRECIPIENTS\tBYTES\tOLDEST\tABOVE\tACTION")
	of := func(used, limit int64) string {
		if limit == 0 {
			return strconv.FormatInt(used, 10)
		}
		return fmt.Sprintf("%d of %d", used, limit)
	}
	for _, u := range all {
		oldest := "-"
		if u.What == quota.Waiting {
			oldest = seconds(u.Oldest)
			if u.OldestLimit > 0 {
				oldest += " of " + seconds(u.OldestLimit)
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", shown(u.Tenant), shown(u.User), u.What, of(u.Messages, u.Limits.Messages),
			of(u.Recipients, u.Limits.Recipients), of(u.Bytes, u.Limits.Bytes), oldest, shown(string(u.Limit)), u.Action)
	}
	return t.Flush()
}

func seconds(s float64) string {
	return directory.FormatDuration(time.Duration(s * float64(time.Second)))
}
