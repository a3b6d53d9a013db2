package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// healthCmd asks a process on this host whether it is fit for work: exit code
// 0 or 1. It is what a container's health check runs.
type healthCmd struct {
	HTTP string `name:"http" placeholder:"ADDR" default:"127.0.0.1:8025" help:"Where the process serves HTTP (default: ${default})."`
	Live bool   `help:"Ask only whether it lives, not whether it is fit."`
}

func (c *healthCmd) Run(ctx context.Context, p *Process) error {
	host, port, err := net.SplitHostPort(c.HTTP)
	if err != nil {
		return usagef("--http: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1" // the process was told to listen everywhere
	}
	path := "/readyz"
	if c.Live {
		path = "/healthz"
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+path, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("nobody answers; does the process run, and serve its --http there? %w", err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(p.Stdout, io.LimitReader(res.Body, 64<<10)); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("not fit for work: %s", res.Status)
	}
	return nil
}
