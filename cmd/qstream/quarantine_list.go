package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"qstream/mail"
	"qstream/quarantine"
)

// quarantineListCmd lists what is held back.
type quarantineListCmd struct {
	System
	heldFlags
	JSON bool `name:"json" help:"Print JSON, one leg a line."`
}

func (c *quarantineListCmd) Run(ctx context.Context, p *Process) error {
	b, legs, err := c.find(ctx, p, &c.System, true)
	if err != nil {
		return err
	}
	defer b.Close()
	if c.JSON {
		out := json.NewEncoder(p.Stdout)
		for _, l := range legs {
			if err := out.Encode(heldJSONOf(l)); err != nil {
				return err
			}
		}
		return nil
	}
	return heldTable(p.Stdout, legs, p.Now())
}

// heldTable prints legs for people.
func heldTable(w io.Writer, legs []quarantine.Leg, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tHELD FOR\tLEFT\tTENANT\tQUEUE\tFINDING\tNAME\tSIZE\tFROM\tTO")
	recipients := 0
	for _, l := range legs {
		_, name := l.Found()
		recipients += len(l.Meant)
		fmt.Fprintln(t, strings.Join([]string{
			l.ID(), age(l.Since(), now), age(now, l.Until()), shown(l.Tenant), shown(l.Queue), shown(l.GetScan().GetFinding()), shown(name),
			fmt.Sprint(l.Content.GetSize()), "<" + strings.TrimSpace(mail.Printable(l.ReversePath)) + ">", andMore(l.Meant[0].Address, len(l.Meant)),
		}, "\t"))
	}
	fmt.Fprintf(t, "%d legs, %d recipients\n", len(legs), recipients)
	return t.Flush()
}

// heldJSON is a held leg as JSON. Texts are as they came: hostile.
type heldJSON struct {
	ID          string          `json:"id"`
	MessageID   string          `json:"message_id"`
	Leg         uint32          `json:"leg"`
	Tenant      string          `json:"tenant"`
	Queue       string          `json:"queue"`
	Since       time.Time       `json:"since"`
	Until       time.Time       `json:"until"`
	Policy      string          `json:"policy"`
	Finding     string          `json:"finding"`
	Verdicts    []verdictJSON   `json:"verdicts"`
	Size        int64           `json:"size"`
	ReversePath string          `json:"reverse_path"`
	Recipients  []recipientJSON `json:"recipients"`
	HeaderID    string          `json:"header_message_id,omitempty"`
	Client      string          `json:"client,omitempty"`
}

type recipientJSON struct {
	Number  uint32 `json:"number"`
	Address string `json:"address"`
	Meant   bool   `json:"selected"`
}

type verdictJSON struct {
	Engine     string  `json:"engine"`
	Outcome    string  `json:"outcome"`
	Reason     string  `json:"reason,omitempty"`
	Name       string  `json:"name,omitempty"`
	Detail     string  `json:"detail,omitempty"`
	Signatures string  `json:"signatures,omitempty"`
	Score      float64 `json:"score,omitempty"`
}

func heldJSONOf(l quarantine.Leg) heldJSON {
	out := heldJSON{
		ID: l.ID(), MessageID: l.MessageId, Leg: l.Number, Tenant: l.Tenant, Queue: l.Queue, Since: l.Since().UTC(), Until: l.Until().UTC(),
		Policy: l.GetScan().GetPolicy(), Finding: l.GetScan().GetFinding(), Verdicts: []verdictJSON{}, Size: l.Content.GetSize(),
		ReversePath: l.ReversePath, Recipients: []recipientJSON{}, HeaderID: l.HeaderMessageId, Client: l.GetSession().GetClientIp(),
	}
	for _, v := range l.GetScan().GetVerdicts() {
		out.Verdicts = append(out.Verdicts, verdictJSON{v.Engine, v.Outcome, v.Reason, v.Name, v.Detail, v.Signatures, v.Score})
	}
	meant := map[uint32]bool{}
	for _, r := range l.Meant {
		meant[r.Number] = true
	}
	for _, r := range l.Recipients {
		out.Recipients = append(out.Recipients, recipientJSON{r.Number, r.Address, meant[r.Number]})
	}
	return out
}
