package milter_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qstream/engine"
	"qstream/engine/enginetest"
	"qstream/engine/milter"
	"qstream/mail"
	"qstream/test/peers"
)

func filtered(t *testing.T, address string) *milter.Client {
	t.Helper()
	c, err := milter.New(milter.Config{Network: "tcp", Address: address, Patience: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRealOpenDKIM(t *testing.T) {
	peers.Need(t)
	c := filtered(t, peers.StartOpenDKIM(t))
	f := enginetest.Facts(0)
	f.Client = netip.MustParseAddr("127.0.0.1")
	content := "From: a@client.example\r\nTo: b@acme.example\r\nSubject: x\r\n folded\r\nDate: Tue, 24 Nov 2026 12:00:00 +0000\r\n\r\n" + strings.Repeat("some text\r\n", 20_000)
	v := c.Scan(t.Context(), strings.NewReader(content), f)
	if v.Outcome != engine.Clean || len(v.Changes) != 1 || v.Changes[0].Name != "DKIM-Signature" ||
		!strings.Contains(v.Changes[0].Value, "d=client.example; s=s1;") {
		t.Errorf("%+v", v)
	}
	if _, err := c.State(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestRealPythonMilter(t *testing.T) {
	peers.Need(t)
	c := filtered(t, peers.StartMilter(t))
	body := strings.Repeat("some text\r\n", 30_000)
	for subject, want := range map[string]engine.Verdict{
		"hello": {Outcome: engine.Clean},
		"refuse": {Outcome: engine.Refused, Advice: engine.Refuse, Detail: "554 5.6.0 so it says",
			Status: mail.Status{Code: 554, Enhanced: "5.6.0", Text: "so it says"}},
		"put off": {Outcome: engine.Failed, Reason: engine.Trouble, Advice: engine.Defer, Detail: "451 4.7.1 put off by a filter",
			Status: mail.Status{Code: 451, Enhanced: "4.7.1", Text: "put off by a filter"}},
		"discard": {Outcome: engine.Refused, Advice: engine.Discard},
		"hold":    {Outcome: engine.Refused, Advice: engine.Quarantine, Detail: "held for a look"},
		"change": {Outcome: engine.Clean, Changes: []engine.Change{{Name: "X-Size", Value: "330000"}, {Kind: engine.InsertField, Name: "X-First", Value: "i"},
			{Kind: engine.ReplaceField, Index: 1, Name: "Subject", Value: "changed\r\n\tmore"}, {Kind: engine.DeleteField, Index: 1, Name: "X-Old"}}},
	} {
		want.Engine = "milter"
		got := enginetest.Ask(t, c, "From: a@client.example\r\nSubject: "+subject+"\r\nX-Old: x\r\n\r\n"+body)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", subject, diff)
		}
	}
	f := enginetest.Facts(0)
	f.Recipients = []string{"ann@acme.example", "no@acme.example"}
	v := c.Scan(t.Context(), strings.NewReader("Subject: x\r\n\r\n"), f)
	want := []engine.Refusal{{Recipient: 1, Status: mail.Status{Code: 550, Enhanced: "5.7.1", Text: "not this one"}}}
	if diff := cmp.Diff(want, v.Refusals); v.Outcome != engine.Clean || diff != "" {
		t.Errorf("%+v %s", v, diff)
	}
}
