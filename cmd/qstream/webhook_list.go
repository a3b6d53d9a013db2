package main

import (
	"context"
	"encoding/json"
	"fmt"
	"text/tabwriter"
	"time"

	"qstream/bus"
	"qstream/control"
	"qstream/directory"
	"qstream/mail"
	"qstream/schemas"
	"qstream/tapper/webhook"
)

// webhookListCmd lists webhooks.
type webhookListCmd struct {
	System
	JSON bool `name:"json" help:"Print JSON, one webhook a line."`
}

// hookJSON is a webhook for people and programs. The URL is shown without its
// query.
type hookJSON struct {
	Name    string     `json:"name"`
	Tenant  string     `json:"tenant,omitempty"`
	All     bool       `json:"all,omitempty"`
	URL     string     `json:"url"`
	Since   time.Time  `json:"since"`
	Paused  *time.Time `json:"paused,omitempty"`
	By      string     `json:"paused_by,omitempty"`
	Reason  string     `json:"reason,omitempty"`
	Rewound *time.Time `json:"rewound,omitempty"`
	To      *time.Time `json:"rewound_to,omitempty"`
	Group   string     `json:"group"`
	Behind  int64      `json:"behind"`
	Dead    int        `json:"dead"`
}

func (h *hook) json(ctx context.Context) (hookJSON, error) {
	at := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		t = t.UTC()
		return &t
	}
	u := *h.URL
	u.RawQuery = ""
	out := hookJSON{
		Name: h.Name, Tenant: h.Tenant, All: h.All, URL: u.String(), Since: h.Since.UTC(), Paused: at(h.standing.PausedAt),
		By: h.standing.Actor, Reason: h.standing.Reason, Rewound: at(h.standing.RewoundAt), To: at(h.standing.Since),
		Group: webhook.Group(h.Webhook, h.standing),
	}
	var err error
	if out.Behind, err = hookBehind(ctx, h.bus, out.Group); err != nil {
		return out, err
	}
	dead, err := webhook.AllDead(ctx, h.bus, h.Name)
	out.Dead = len(dead)
	return out, err
}

// hookBehind is how many records a webhook hasn't done with, as far as its commits
// tell; -1 before it has any.
func hookBehind(ctx context.Context, b *bus.Bus, group string) (int64, error) {
	committed, err := b.Committed(ctx, group, schemas.Events)
	if err != nil {
		return 0, err
	}
	if len(committed) == 0 {
		return -1, nil
	}
	lag, err := b.Lag(ctx, group, []string{schemas.Events})
	sum := int64(0)
	for p, n := range lag[schemas.Events] {
		if _, ok := committed[p]; ok {
			sum += n
		}
	}
	return sum, err
}

func (c *webhookListCmd) Run(ctx context.Context, p *Process) error {
	b, err := c.Open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	s, err := directory.Read(ctx, b)
	if err != nil {
		return err
	}
	state, err := control.Read(ctx, b)
	if err != nil {
		return err
	}
	out := json.NewEncoder(p.Stdout)
	t := tabwriter.NewWriter(p.Stdout, 0, 0, 2, ' ', 0)
	for i, w := range s.Webhooks() {
		h := &hook{Webhook: w, bus: b, standing: state.Webhook(w.Name)}
		one, err := h.json(ctx)
		if err != nil {
			return err
		}
		if c.JSON {
			if err := out.Encode(one); err != nil {
				return err
			}
			continue
		}
		if i == 0 {
			fmt.Fprintln(t, "NAME\tEVENTS OF\tSTATE\tBEHIND\tDEAD\tURL")
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%s\n", one.Name, one.of(), one.state(), one.behind(), one.Dead, mail.Printable(one.URL))
	}
	if !c.JSON && len(s.Webhooks()) == 0 {
		fmt.Fprintln(p.Stdout, "there are no webhooks; they are documents of the directory (kind: webhook)")
	}
	return t.Flush()
}

func (h hookJSON) of() string {
	if h.All {
		return "everybody"
	}
	return h.Tenant
}

func (h hookJSON) state() string {
	if h.Paused != nil {
		return "paused"
	}
	return "posting"
}

func (h hookJSON) behind() string {
	if h.Behind < 0 {
		return "not begun"
	}
	return fmt.Sprint(h.Behind)
}
