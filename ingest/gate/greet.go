package gate

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"qstream/directory"
	"qstream/mail"
)

// maxGreet is the longest wait, also by GREETDELAY.
const maxGreet = time.Minute

// greet holds the greeting back where the server speaks first, and refuses
// clients that don't wait for it (RFC 5321 4.3.1).
func (g *Gate) greet(ctx context.Context, nc net.Conn, rules *directory.Rules, c *Client) *Refusal {
	delay := rules.Greet.Delay
	if seconds, set := c.Number(GreetDelay); set {
		delay = time.Duration(min(seconds, int64(maxGreet/time.Second))) * time.Second
	}
	if delay == 0 || c.Service != directory.ServiceSMTP && c.Service != directory.ServiceSubmission {
		return nil
	}
	came, err := waitSilent(ctx, nc, delay)
	switch {
	case came:
		status := mail.Status{Code: 554, Enhanced: "5.5.1", Text: "you spoke before the greeting"}
		if rules.Greet.Early == 421 {
			status.Code, status.Enhanced = 421, "4.5.1"
		}
		return &Refusal{Reason: "early", Status: status}
	case err != nil:
		return &Refusal{Reason: "gone", Quiet: true}
	}
	return nil
}

// waitSilent waits; came says that the client sent something meanwhile, an
// error that it went away or ctx ended.
func waitSilent(ctx context.Context, nc net.Conn, d time.Duration) (came bool, err error) {
	if err := nc.SetReadDeadline(time.Now().Add(d)); err != nil {
		return false, err
	}
	defer context.AfterFunc(ctx, func() { _ = nc.SetReadDeadline(time.Unix(1, 0)) })() // broken: Read tells
	n, err := nc.Read(make([]byte, 1))
	switch {
	case n > 0:
		return true, nil
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return false, err
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	}
	return false, nc.SetReadDeadline(time.Time{})
}
