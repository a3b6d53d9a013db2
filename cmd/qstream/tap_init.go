package main

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"qstream/tapper/vault/docket"
	"qstream/tapper/vault/order"
)

// tapInitCmd makes a vault. It asks nothing of a system.
type tapInitCmd struct {
	Officer map[string]string `required:"" placeholder:"NAME=FILE" mapsep:"," help:"A first officer, and the PEM file of the public key (tap officer new); two at least."`
	Dir     string            `arg:"" type:"path" help:"The vault's folder; new or empty."`
}

func (c *tapInitCmd) Run(_ context.Context, p *Process) error {
	if len(c.Officer) < 2 {
		return usagef("--officer: want two at least: nobody agrees to his own orders")
	}
	var first []order.Officer
	for _, name := range slices.Sorted(maps.Keys(c.Officer)) {
		o, err := readOfficer(name, c.Officer[name])
		if err != nil {
			return err
		}
		first = append(first, o)
	}
	f, err := docket.Found(c.Dir, first...)
	if err != nil {
		return err
	}
	fmt.Fprintf(p.Stdout, "vault %s is in %s\n", f.Founding.ID(), f.Dir)
	for _, o := range f.Founding.Officers {
		fmt.Fprintf(p.Stdout, "  officer %s, key %s\n", o.Name, o.Fingerprint())
	}
	fmt.Fprintf(p.Stdout, "Copy the folder to each host that runs a tapper, keep another copy apart, and start them with --vault %s.\n", f.Dir)
	return nil
}
