package rspamd_test

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qstream/engine"
	"qstream/engine/enginetest"
	"qstream/engine/rspamd"
	"qstream/test/peers"
)

func TestRealRspamd(t *testing.T) {
	peers.Need(t)
	d := peers.StartRspamd(t)
	c, err := rspamd.New(rspamd.Config{Network: "tcp", Address: d.Addr(), Patience: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ham := "From: a@client.example\r\nSubject: hello\r\n\r\ntext\r\n"
	if v := enginetest.Ask(t, c, ham); v.Outcome != engine.Clean || v.Threshold != 15 {
		t.Errorf("ham: %+v", v)
	}
	v := enginetest.Ask(t, c, strings.Replace(ham, "hello", "SPAM for you", 1))
	want := []engine.Symbol{{Name: "SUBJ_SPAM", Score: 7, Options: []string{"SPAM for you"}}}
	if diff := cmp.Diff(want, v.Symbols); v.Outcome != engine.Spam || v.Advice != engine.Tag || v.Score != 7 || diff != "" {
		t.Errorf("spam: %+v %s", v, diff)
	}
	if diff := cmp.Diff([]engine.Change{{Kind: engine.InsertField, Index: 1, Name: "X-Spam", Value: "Yes"},
		{Kind: engine.DeleteField, Name: "X-Old"}}, v.Changes, sortChanges); diff != "" {
		t.Errorf("changes: %s", diff)
	}
	if v := enginetest.Ask(t, c, ham+peers.GTUBE+"\r\n"); v.Outcome != engine.Spam || v.Advice != engine.Refuse {
		t.Errorf("GTUBE: %+v", v)
	}
	// The rule tells what it was told of the envelope.
	f := enginetest.Facts(int64(len(ham)))
	f.Client, f.User = netip.MustParseAddr("192.0.2.7"), "ann"
	v = c.Scan(t.Context(), strings.NewReader(ham), f)
	if len(v.Symbols) != 1 || v.Symbols[0].Name != "TOLD" || v.Symbols[0].Options[0] !=
		"192.0.2.7 client.example ann sender@client.example ann@acme.example,bob@acme.example" {
		t.Errorf("facts: %+v", v)
	}
	// A size that isn't known, and a large one.
	if v := c.Scan(t.Context(), strings.NewReader(ham+strings.Repeat("text\r\n", 1<<20)), enginetest.Facts(0)); v.Outcome != engine.Clean {
		t.Errorf("6 MB: %+v", v)
	}
	if s, err := c.State(t.Context()); err != nil || !strings.HasPrefix(s.Software, "rspamd/") {
		t.Errorf("%+v, %v", s, err)
	}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for range 20 {
				text, want := ham, engine.Clean
				if w%2 == 0 {
					text, want = strings.Replace(ham, "hello", "SPAM", 1), engine.Spam
				}
				if v := enginetest.Ask(t, c, text); v.Outcome != want {
					t.Errorf("%+v", v)
				}
			}
		})
	}
	wg.Wait()
	d.Signal(t, syscall.SIGSTOP)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if v := c.Scan(ctx, strings.NewReader(ham), enginetest.Facts(0)); v.Outcome != engine.Failed || v.Reason != engine.Late {
		t.Errorf("frozen: %+v", v)
	}
	d.Signal(t, syscall.SIGCONT)
	if v := enginetest.Ask(t, c, ham); v.Outcome != engine.Clean {
		t.Errorf("thawed: %+v", v)
	}
}

var sortChanges = cmp.Transformer("sorted", func(all []engine.Change) map[string]engine.Change {
	m := map[string]engine.Change{}
	for _, c := range all {
		m[c.Name] = c
	}
	return m
})
