// Package sinktest has the copies by which sinks are tried, and the places that
// they are put to in tests of others.
package sinktest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	pb "qstream/schemas/qstream/v1"
	"qstream/tapper/sink"
)

// Accepted is when the first copy's message came.
var Accepted = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// Prepend is what stands before each message.
const Prepend = "Received: from client.example by mx.example\r\n"

// Content is the n-th message.
func Content(n int) string {
	return fmt.Sprintf("From: ann@sender.example\r\nTo: Bob <bob@acme.example>\r\nCc: carol@acme.example\r\n"+
		"Subject: copy %d\r\nMessage-ID: <m%d@sender.example>\r\n\r\nLine one.\r\n.dot\r\nFrom the third line.\r\n", n, n)
}

// Full is the n-th copy, of content.
func Full(n int, content string) sink.Copy {
	sum := sha256.Sum256([]byte(content))
	r := &pb.Received{
		Id:      fmt.Sprintf("01KJM0000000000000000%05d", n),
		Prepend: []byte(Prepend), Directory: 7, AcceptedMs: Accepted.UnixMilli(),
		HeaderMessageId: fmt.Sprintf("m%d@sender.example", n),
		Session:         &pb.Session{Protocol: pb.Protocol_PROTOCOL_SMTP, ClientIp: "192.0.2.1", Helo: "client.example", Edge: "mx.example"},
		Envelope: &pb.Envelope{ReversePath: "ann@sender.example", Recipients: []*pb.Recipient{
			{Number: 0, Address: "bob@acme.example"},
			{Number: 1, Address: "carol@acme.example"},
			{Number: 2, Address: "dave@acme.example", Orcpt: "rfc822;all@acme.example"},
			{Number: 3, Address: "else@other.example"}, // not among the copy's
		}},
		Content: &pb.Content{Size: int64(len(content)), Sha256: sum[:]},
	}
	return sink.Copy{
		ID: "acme." + r.Id, Subscription: "acme", Sequence: uint64(n), Lane: "0", Kind: sink.Full,
		MessageID: r.Id, Accepted: Accepted.Add(time.Duration(n) * time.Second),
		Received: r, Recipients: r.Envelope.Recipients[:3],
		Size: int64(len(Prepend) + len(content)),
		Open: func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(Prepend + content)), nil
		},
	}
}

// Envelope is the n-th copy without content.
func Envelope(n int) sink.Copy {
	c := Full(n, Content(n))
	c.Kind, c.Open, c.Size = sink.Envelope, nil, 0
	return c
}

// Outcome is the n-th copy, of what became of the message.
func Outcome(n int) sink.Copy {
	c := Envelope(n)
	c.Kind = sink.Outcome
	c.ID += ".1"
	c.Event = &pb.Event{
		Id: c.MessageID + ".1.2.4", Type: pb.EventType_EVENT_TYPE_DELIVERED, AtMs: c.Accepted.UnixMilli(), MessageId: c.MessageID,
		Host: "mail.acme.example", HostIp: "192.0.2.25", Outcomes: []*pb.Outcome{{
			Number: 0, Address: "bob@acme.example",
			Status: &pb.Status{Code: 250, Enhanced: "2.0.0", Text: "ok\r\nfake: line"},
		}},
	}
	return c
}

// Sealed is the n-th copy, of which nothing is told.
func Sealed(n int) sink.Copy {
	text := "age-encryption.org/v1\n" + strings.Repeat("\x00\xff\r", 100*n)
	return sink.Copy{
		ID: fmt.Sprintf("order-1.3.%d", n), Subscription: "order-1", Sequence: uint64(n), Lane: "3", Kind: sink.Full, Sealed: true,
		Size: int64(len(text)),
		Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil },
	}
}

// Large is a copy of size octets that are made as they are read. Ahead, if it
// is set, is how many were read and not yet closed.
func Large(n int, size int64, read *atomic.Int64) sink.Copy {
	c := Full(n, "")
	line := []byte(strings.Repeat("large message ", 5) + "\r\n")
	size -= size % int64(len(line))
	c.Size = size + int64(len(Prepend)) + 2
	c.Open = func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(strings.NewReader(Prepend+"\r\n"), &repeat{line: line, left: size, read: read})), nil
	}
	return c
}

type repeat struct {
	line []byte
	left int64
	read *atomic.Int64
	at   int
}

func (r *repeat) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n := 0
	for n < len(p) && r.left > 0 {
		m := copy(p[n:min(int64(len(p)), int64(n)+r.left)], r.line[r.at:])
		r.at = (r.at + m) % len(r.line)
		n += m
		r.left -= int64(m)
	}
	if r.read != nil {
		r.read.Add(int64(n))
	}
	return n, nil
}

// Message is a copy's message, read to its end.
func Message(c sink.Copy) []byte {
	r, err := c.Open(context.Background())
	if err != nil {
		return nil
	}
	defer r.Close()
	var b bytes.Buffer
	_, _ = b.ReadFrom(r)
	return b.Bytes()
}

// Recipient is one of a copy.
func Recipient(number uint32, address, orcpt string) *pb.Recipient {
	return &pb.Recipient{Number: number, Address: address, Orcpt: orcpt}
}

// Watch calls look each time that another MiB was read.
func Watch(open func(context.Context) (io.ReadCloser, error), look func()) func(context.Context) (io.ReadCloser, error) {
	return func(ctx context.Context) (io.ReadCloser, error) {
		r, err := open(ctx)
		return &watched{r, look, 0}, err
	}
}

type watched struct {
	io.ReadCloser
	look func()
	n    int
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if w.n += n; w.n >= 1<<20 {
		w.n = 0
		w.look()
	}
	return n, err
}
