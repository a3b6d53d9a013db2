package ingest

import (
	"strings"
	"testing"

	"qstream/bus/bustest"
	pb "qstream/schemas/qstream/v1"
	"qstream/test/peers"
)

func TestSwaks(t *testing.T) {
	peers.Need(t)
	b := bustest.New(t)
	apply(t, b, site)
	in, _ := start(t, b, Config{})
	addr := in.Addr().String()
	for _, extra := range [][]string{nil, {"--pipeline"}, {"--protocol", "SMTP"}} {
		args := append([]string{"--from", "a@strange.example", "--to", "b@acme.example", "--header", "Subject: hello"}, extra...)
		if out, code := peers.Swaks(t, addr, args...); code != 0 {
			t.Errorf("%v: exit code %d\n%s", extra, code, out)
		}
	}
	if out, code := peers.Swaks(t, addr, "--from", "a@strange.example", "--to", "b@elsewhere.example"); code != 24 || !strings.Contains(out, "553 5.7.1") {
		t.Errorf("relayed: exit code %d\n%s", code, out)
	}
	for _, m := range received(t, b, 3) {
		if !strings.Contains(string(m.Content.GetInline()), "Subject: hello\r\n") {
			t.Errorf("content %q", m.Content.GetInline())
		}
	}
}

func TestPostfixSource(t *testing.T) {
	peers.Need(t)
	b := bustest.New(t)
	apply(t, b, site)
	in, _ := start(t, b, Config{})
	peers.Source(t, in.Addr().String(), 10, 200, 10_000, "a@strange.example", "b@acme.example")
	peers.Source(t, in.Addr().String(), 2, 4, 200_000, "a@strange.example", "b@acme.example")
	if n := len(received(t, b, 204)); n != 204 {
		t.Errorf("%d stored", n)
	}
}

func TestPostfixQMQPSource(t *testing.T) {
	peers.Need(t)
	b := bustest.New(t)
	apply(t, b, relaySite)
	in, _ := start(t, b, anyPort(Config{}))
	addr := in.AddrOf("qmqp").String()
	peers.QMQPSource(t, addr, 10, 200, 10_000, "a@strange.example", "b@acme.example")
	peers.QMQPSource(t, addr, 2, 4, 200_000, "a@strange.example", "b@elsewhere.example")
	for _, m := range received(t, b, 204) {
		if m.Session.Protocol != pb.Protocol_PROTOCOL_QMQP || m.Envelope.ReversePath != "a@strange.example" {
			t.Errorf("%v", m)
		}
	}
}

func TestNullmailer(t *testing.T) {
	peers.Need(t)
	b := bustest.New(t)
	apply(t, b, relaySite)
	in, _ := start(t, b, anyPort(Config{}))
	send := func(to ...string) (string, error) {
		return peers.Nullmailer(t, in.AddrOf("qmqp").String(), "a@strange.example", to, "Subject: hello\n\nby QMQP\n")
	}
	if out, err := send("b@acme.example", "c@elsewhere.example"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := send("b@acme.example", "c@refused.example"); err == nil || !strings.Contains(out, "no such user: <c@refused.example> (#5.1.1)") {
		t.Errorf("refused: %v\n%s", err, out)
	}
	m := received(t, b, 1)[0]
	if string(m.Content.GetInline()) != "Subject: hello\r\n\r\nby QMQP\r\n" || len(m.Envelope.Recipients) != 2 {
		t.Errorf("%v", m)
	}
}
