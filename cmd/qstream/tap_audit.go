package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"qstream/tapper/vault/office"
)

// tapAuditCmd prints the vault's audit.
type tapAuditCmd struct {
	officerFlags
	Since moment `placeholder:"WHEN" default:"7d" help:"Acts since then: a time (RFC 3339), or so many s, m, h or d ago (default: ${default})."`
	Until moment `placeholder:"WHEN" help:"Acts before then."`
	JSON  bool   `name:"json" help:"Print JSON, one act a line."`
}

func (c *tapAuditCmd) Run(ctx context.Context, p *Process) error {
	var acts []office.Act
	args := office.AuditArgs{Since: c.Since.at(p.Now()), Until: c.Until.at(p.Now())}
	if err := c.ask(ctx, p, office.VerbAudit, args, &acts); err != nil {
		return err
	}
	if c.JSON {
		out := json.NewEncoder(p.Stdout)
		for _, a := range acts {
			if err := out.Encode(a); err != nil {
				return err
			}
		}
		return nil
	}
	t := tabwriter.NewWriter(p.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "AT\tOFFICER\tACTION\tABOUT\tDETAIL\tREFUSED\tFROM")
	for _, a := range acts {
		if a.Count > 0 {
			a.Detail = fmt.Sprint(a.Count)
		}
		fmt.Fprintln(t, strings.Join([]string{
			a.At.Format(time.RFC3339), shown(a.Officer), shown(a.Action), shown(a.Subject), shown(a.Detail), shown(a.Refused), shown(a.Client),
		}, "\t"))
	}
	return t.Flush()
}
