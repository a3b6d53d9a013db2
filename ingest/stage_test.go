package ingest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/directory"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
	"qstream/transport/resolver"
)

const site = `
kind: site
name: site
me: mx.acme.example
---
kind: tenant
name: acme
domains: [acme.example, refused.example]
---
kind: queue
name: acme
---
kind: route
name: acme
match: {domain: acme.example}
via: "discard:"
---
kind: route
name: refused
match: {domain: refused.example}
via: "error:550 5.1.1 no such user"
`

const relaySite = site + `
---
kind: tenant
name: inside
networks: [127.0.0.0/8]
queue: acme
---
kind: route
name: out
match: {domain: "*"}
via: "discard:"
`

// apply publishes directory documents.
func apply(t testing.TB, b *bus.Bus, text string) {
	t.Helper()
	docs, err := directory.Parse(directory.File{Name: "test.yaml", Data: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := directory.Apply(t.Context(), b, directory.Change{Documents: docs}, directory.Options{}); err != nil {
		t.Fatal(err)
	}
}

// change publishes directory documents and waits until the edge has them.
func change(t testing.TB, b *bus.Bus, in *Ingest, text string) {
	t.Helper()
	before := in.snapshot().Number
	apply(t, b, text)
	for end := time.Now().Add(time.Minute); in.snapshot().Number == before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the edge has no newer directory after a minute")
		}
	}
}

// start runs an edge on a free port until stop or the test's end.
func start(t testing.TB, b *bus.Bus, cfg Config) (in *Ingest, stop func() error) {
	t.Helper()
	return startWith(t, b, cfg, func(*Deps) {})
}

func startWith(t testing.TB, b *bus.Bus, cfg Config, change func(*Deps)) (in *Ingest, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	dir := directory.Follow(b)
	followed := make(chan error, 1)
	go func() { followed <- dir.Run(ctx) }()
	<-dir.Ready()
	cfg.SMTP = "127.0.0.1:0"
	if cfg.Hostname == "" {
		cfg.Hostname = "edge.example"
	}
	deps := Deps{Bus: b, Directory: dir, Resolver: noNames(t)}
	change(&deps)
	in, err := New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Listen(); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- in.Run(ctx) }()
	var once error
	stopped := false
	stop = func() error {
		if !stopped {
			stopped = true
			cancel()
			once = <-served
			<-followed
		}
		return once
	}
	t.Cleanup(func() { _ = stop() })
	return in, stop
}

// noNames is a resolver that nobody answers.
func noNames(t testing.TB) *resolver.Resolver {
	t.Helper()
	r, err := resolver.New(resolver.Config{Servers: []string{"127.0.0.1:1"}, Timeout: 100 * time.Millisecond, Tries: 1})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// client speaks SMTP by hand.
type client struct {
	net.Conn
	t  testing.TB
	in *bufio.Reader
}

func newClient(t testing.TB, c net.Conn) *client {
	return &client{Conn: c, t: t, in: bufio.NewReader(c)}
}

func dial(t testing.TB, in *Ingest) *client {
	t.Helper()
	c, err := net.Dial("tcp", in.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(5 * time.Minute))
	cl := newClient(t, c)
	cl.expect("220")
	return cl
}

// say sends lines and wants one reply each, by their first characters.
func (c *client) say(lines string, replies ...string) string {
	c.t.Helper()
	if _, err := io.WriteString(c, lines); err != nil {
		c.t.Fatal(err)
	}
	last := ""
	for _, want := range replies {
		last = c.expect(want)
	}
	return last
}

func (c *client) expect(want string) string {
	c.t.Helper()
	var all strings.Builder
	for {
		line, err := c.in.ReadString('\n')
		all.WriteString(line)
		if err != nil {
			c.t.Fatalf("got %q and %v, want %s", all.String(), err, want)
		}
		if len(line) > 3 && line[3] == ' ' {
			break
		}
	}
	if !strings.HasPrefix(strings.ReplaceAll(all.String(), want[:3]+"-", want[:3]+" "), want) {
		c.t.Fatalf("got %q, want %s", all.String(), want)
	}
	return all.String()
}

// received are the messages on the received topic.
func received(t testing.TB, b *bus.Bus, n int) []*pb.Received {
	t.Helper()
	var all []*pb.Received
	for _, r := range bustest.Want(t, b, schemas.Received, n) {
		var m pb.Received
		if err := proto.Unmarshal(r.Value, &m); err != nil {
			t.Fatal(err)
		}
		if string(r.Key) != m.Id {
			t.Errorf("key %q of message %s", r.Key, m.Id)
		}
		all = append(all, &m)
	}
	return all
}

// find is the message of a size.
func find(ms []*pb.Received, size int64) *pb.Received {
	for _, m := range ms {
		if m.Content.Size == size {
			return m
		}
	}
	return &pb.Received{Content: &pb.Content{}}
}

func TestMailIsPublished(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, relaySite)
	in, stop := start(t, b, Config{})
	c := dial(t, in)
	for in.Ready() != nil && t.Context().Err() == nil { // what edges share is read at the start
		time.Sleep(10 * time.Millisecond)
	}
	c.say("EHLO client.example\r\n", "250 edge.example")
	c.say("MAIL FROM:<a@strange.example> ENVID=x+2By RET=HDRS BODY=8BITMIME\r\n"+
		"RCPT TO:<b@ACME.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;c@acme.example\r\n"+
		"RCPT TO:<B@acme.example>\r\nRCPT TO:<b@acme.example>\r\nRCPT TO:<d@else.example>\r\nDATA\r\n", "250", "250", "250", "250", "250", "354")
	content := "Message-ID: <1@strange.example>\r\nSubject: hello\r\n\r\n..dots\r\n"
	reply := c.say(strings.ReplaceAll(content, "\r\n.", "\r\n..")+".\r\n", "250 2.0.0 ok ")
	id := strings.TrimSpace(strings.TrimPrefix(reply, "250 2.0.0 ok "))
	c.say("QUIT\r\n", "221")

	m := received(t, b, 1)[0]
	if m.Id != id || len(id) != mail.IDLength {
		t.Errorf("id %q, reply %q", m.Id, reply)
	}
	if got := string(m.Content.GetInline()); got != content || m.Content.Size != int64(len(content)) {
		t.Errorf("content %q", got)
	}
	want := &pb.Envelope{
		ReversePath: "a@strange.example", EnvId: "x+y", Ret: pb.Ret_RET_HDRS, Body: pb.Body_BODY_8BITMIME,
		Recipients: []*pb.Recipient{
			{Number: 0, Address: "b@ACME.example", Notify: []pb.Notify{pb.Notify_NOTIFY_SUCCESS, pb.Notify_NOTIFY_DELAY}, Orcpt: "rfc822;c@acme.example"},
			{Number: 1, Address: "B@acme.example"},
			{Number: 2, Address: "d@else.example"},
		},
	}
	if !proto.Equal(m.Envelope, want) {
		t.Errorf("envelope %v, want %v", m.Envelope, want)
	}
	if s := m.Session; s.ClientIp != "127.0.0.1" || s.Helo != "client.example" || !s.Relay || s.Tenant != "inside" || s.Edge != "edge.example" {
		t.Errorf("session %v", s)
	}
	if m.HeaderMessageId != "<1@strange.example>" || m.Directory == 0 || m.AcceptedMs == 0 {
		t.Errorf("record %v", m)
	}
	if p := string(m.Prepend); !strings.HasPrefix(p, "Received: from client.example ([127.0.0.1])\r\n\tby edge.example with ESMTP id "+id+";") {
		t.Errorf("trace line %q", p)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if in.Ready() == nil {
		t.Error("ready after its end")
	}
}

func TestStrangersDoNotRelay(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, site)
	in, _ := start(t, b, Config{})
	c := dial(t, in)
	c.say("HELO client.example\r\nMAIL FROM:<>\r\n", "250", "250")
	c.say("RCPT TO:<a@acme.example>\r\n", "250 2.1.5")
	c.say("RCPT TO:<a@refused.example>\r\n", "550 5.1.1 no such user")
	c.say("RCPT TO:<a@elsewhere.example>\r\n", "553 5.7.1")
	c.say("RCPT TO:<a@[192.0.2.1]>\r\n", "553 5.7.1")
	c.say(`RCPT TO:<"a@elsewhere.example"@elsewhere.example>`+"\r\n", "553 5.7.1")
	c.say("RCPT TO:<@acme.example:a@elsewhere.example>\r\n", "553 5.7.1")
	c.say("DATA\r\n", "354")
	c.say("hello\r\n.\r\n", "250 2.0.0 ok")
	if m := received(t, b, 1)[0]; len(m.Envelope.Recipients) != 1 || m.Session.Relay || m.Session.Tenant != "" {
		t.Errorf("%v", m)
	}
}

func TestLargeContentIsStored(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, site)
	in, _ := start(t, b, Config{})
	for i, size := range []int{bus.InlineLimit - 2, bus.InlineLimit, bus.InlineLimit + 2, 3 << 20} {
		var text strings.Builder
		for text.Len() < size {
			fmt.Fprintf(&text, "%070d\r\n", text.Len())
		}
		content := text.String()[text.Len()-size:]
		content = strings.ReplaceAll(content, "\n.", "\nx")
		content = "x" + content[1:]
		c := dial(t, in)
		c.say("EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@acme.example>\r\nDATA\r\n", "250", "250", "250", "354")
		c.say(content+".\r\n", "250 2.0.0")
		m := find(received(t, b, i+1), int64(size))
		got := m.Content.GetInline()
		if ref := m.Content.GetRef(); ref != nil {
			r, err := b.Open(t.Context(), ref)
			if err != nil {
				t.Fatal(err)
			}
			if got, err = io.ReadAll(r); err != nil {
				t.Fatal(err)
			}
			r.Close()
		}
		if inline := m.Content.GetRef() == nil; inline != (size <= bus.InlineLimit) {
			t.Errorf("%d octets: inline %v", size, inline)
		}
		if string(got) != content || m.Content.Size != int64(size) {
			t.Errorf("%d octets came back as %d", size, len(got))
		}
	}
}
