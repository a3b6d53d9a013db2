package main

import (
	"context"

	"qstream/test/bench/peer"
)

// nothing is a peer that isn't there: the source speaks to the sink. It shows
// how much of a figure is the source's and the sink's own.
type nothing struct{ addr string }

func (n *nothing) Name() string                { return "source to sink" }
func (n *nothing) Start(context.Context) error { return nil }
func (n *nothing) Stop() error                 { return nil }
func (n *nothing) Addr() string                { return n.addr }
func (n *nothing) Usage() (peer.Usage, error)  { return peer.Usage{}, nil }
func (n *nothing) Log() string                 { return "" }
