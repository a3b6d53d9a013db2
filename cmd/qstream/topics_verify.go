package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

type topicsVerifyCmd struct {
	System
	sizeFlags
	JSON bool `name:"json" help:"Print JSON, one difference a line."`
}

func (c *topicsVerifyCmd) Run(ctx context.Context, p *Process) error {
	b, err := c.Open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	topics, err := c.every(ctx, b)
	if err != nil {
		return err
	}
	differences, err := b.VerifyTopics(ctx, topics, c.options())
	if err != nil {
		return err
	}
	dangerous := 0
	out := json.NewEncoder(p.Stdout)
	for _, d := range differences {
		mark := "differs"
		if d.Dangerous {
			mark = "DANGEROUS"
			dangerous++
		}
		if c.JSON {
			err = out.Encode(map[string]any{
				"where": d.Topic, "setting": d.Setting, "want": d.Want, "got": d.Got, "dangerous": d.Dangerous, "why": d.Why,
			})
		} else {
			_, err = fmt.Fprintf(p.Stdout, "%s  %s: %s is %q, want %q\n    %s\n", mark, d.Topic, d.Setting, d.Got, d.Want, d.Why)
		}
		if err != nil {
			return err
		}
	}
	if dangerous > 0 {
		return errors.New("roles refuse to start on these topics")
	}
	if !c.JSON && len(differences) == 0 {
		fmt.Fprintf(p.Stdout, "%d topics are as they should be\n", len(topics))
	}
	return nil
}
