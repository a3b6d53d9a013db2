// Package discard is the transport that reads nothing and keeps nothing: every
// recipient is delivered to nowhere, because a route says so.
package discard

import (
	"context"

	"qstream/mail"
	"qstream/transport"
)

type discard struct{}

// New is the discard transport.
func New() transport.Transport { return discard{} }

// Deliver takes the message without opening its content.
func (discard) Deliver(_ context.Context, _ transport.Target, a *transport.Attempt) transport.Result {
	return transport.Result{Sent: true, Outcomes: a.All(transport.Outcome{
		Kind:   transport.Decided,
		At:     transport.AtFile,
		Status: mail.Status{Code: 250, Enhanced: "2.0.0", Text: "discarded by route"},
	})}
}

func (discard) Close() error { return nil }
