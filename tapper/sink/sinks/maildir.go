package sinks

import (
	"context"
	"fmt"
	"io"

	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
	"qstream/tapper/sink"
	"qstream/transport"
	"qstream/transport/maildir"
)

// maildirSink keeps copies in a Maildir: one file each, named by the copy's
// ID, so that a repetition finds it. One that a reader moved away meanwhile
// comes again.
type maildirSink struct {
	transport *maildir.Maildir
	folder    string
	form      sink.Form
	me        string
}

func newMaildir(spec sink.Spec, d sink.Deps) *maildirSink {
	return &maildirSink{maildir.New(), spec.Path, sink.Form(spec.Option("form")), d.Me}
}

func (s *maildirSink) Put(ctx context.Context, c sink.Copy) error {
	a, err := attempt(ctx, &c, s.form, s.me)
	if err != nil {
		return err
	}
	a.Recipients = []*pb.Recipient{{Address: c.Subscription}}
	return failed(s.transport.Deliver(ctx, transport.Target{Path: s.folder}, a))
}

func (s *maildirSink) Close() error { return s.transport.Close() }

// attempt is a copy as a transport takes it, with the null reverse-path: no
// trouble of a copy is ever told to who sent the message.
func attempt(ctx context.Context, c *sink.Copy, form sink.Form, me string) (*transport.Attempt, error) {
	m, err := sink.Mail(ctx, c, form, me)
	if err != nil {
		return nil, err
	}
	return &transport.Attempt{
		MessageID: mail.DerivedID(c.Accepted, c.Subscription+"\x00"+c.ID),
		Body:      pb.Body_BODY_8BITMIME, SMTPUTF8: c.Received.GetEnvelope().GetSmtputf8(),
		Size:    m.Size,
		Content: func(ctx context.Context) (io.ReadCloser, error) { return m.Open(ctx) },
		HELO:    me,
	}, nil
}

// failed is the error of what wasn't delivered.
func failed(r transport.Result) error {
	for _, o := range r.Outcomes {
		if !o.Status.OK() {
			return fmt.Errorf("%s at %s: %s", o.Kind, o.At, o.Status)
		}
	}
	return nil
}
