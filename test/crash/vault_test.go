package crash

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"qstream/mail"
	"qstream/tapper/vault"
	"qstream/tapper/vault/docket"
	"qstream/tapper/vault/office"
	"qstream/tapper/vault/order"
	"qstream/test/fakemx"
)

// TestVaultKilled kills the process that has the vault, again and again under
// load: what an order covers is in the lanes once and at its sink, with
// outcomes.
func TestVaultKilled(t *testing.T) {
	each(t, "embedded,kafka1", "kafka3", func(t *testing.T, broker string) {
		v, sink := found(t), filepath.Join(t.TempDir(), "taps")
		tr := start(t, broker, false, fakemx.Config{}, "--vault", v.dir, "--vault-beat", "500ms")
		id := v.order("user@acme.example", "maildir:"+sink)
		tr.begin(10, 100, 0)
		for i := range 4 {
			time.Sleep(time.Duration(1500+737*i%900) * time.Millisecond) // points of no meaning
			must(t, tr.Signal("up", syscall.SIGKILL))
			must(t, tr.Again("up"))
		}
		time.Sleep(time.Second)
		tr.end()
		tr.settle("4 kills of a vault's process", 4*inFlight)
		want := tr.stored("user@acme.example")
		var r vault.Report
		for end := time.Now().Add(2 * time.Minute); ; time.Sleep(500 * time.Millisecond) {
			v.ask("ann", func(c *office.Client) error { return c.Ask(t.Context(), office.VerbGaps, office.IDArgs{ID: id}, &r) })
			if r.Unread == 0 && r.Open == 0 && r.Copies >= want && r.Outcomes >= want || time.Now().After(end) {
				break
			}
		}
		if r.Copies != want || len(r.Gaps) > 0 || r.Unread > 0 || r.Open > 0 {
			t.Errorf("%d messages are covered; the report: %+v", want, r)
		}
		copies := map[string]bool{}
		files, err := filepath.Glob(filepath.Join(sink, "new", "*"))
		must(t, err)
		for _, f := range files {
			text, err := os.ReadFile(f)
			must(t, err)
			if _, id, ok := strings.Cut(string(text), "X-Qstream-Copy: "); ok {
				id, _, _ = strings.Cut(id, "\r\n")
				copies[id] = true
			}
		}
		t.Logf("%d messages covered, %d copies, %d outcomes, %d objects at the sink, %d of them different", want, r.Copies, r.Outcomes, len(files), len(copies))
		if len(copies) != r.Copies+r.Outcomes {
			t.Errorf("%d different objects at the sink, want %d copies and %d outcomes", len(copies), r.Copies, r.Outcomes)
		}
	})
}

// vaulted is a vault with two officers.
type vaulted struct {
	t    *testing.T
	dir  string
	keys map[string]ed25519.PrivateKey
}

func found(t *testing.T) *vaulted {
	t.Helper()
	v := &vaulted{t, filepath.Join(t.TempDir(), "v"), map[string]ed25519.PrivateKey{}}
	var officers []order.Officer
	for _, name := range []string{"ann", "bob"} {
		public, key, err := ed25519.GenerateKey(nil)
		must(t, err)
		v.keys[name] = key
		officers = append(officers, order.Officer{Name: name, Key: public})
	}
	_, err := docket.Found(v.dir, officers[0], officers[1])
	must(t, err)
	return v
}

// ask has an officer ask until the office answers.
func (v *vaulted) ask(name string, f func(*office.Client) error) {
	v.t.Helper()
	c := office.BySocket(docket.Socket(v.dir), name, v.keys[name], time.Now)
	defer c.Close()
	for end := time.Now().Add(time.Minute); ; time.Sleep(500 * time.Millisecond) {
		_, err := c.Hello(v.t.Context())
		if err == nil {
			err = f(c)
		}
		if err == nil {
			return
		}
		if time.Now().After(end) {
			v.t.Fatal(err)
		}
	}
}

// order brings an order about a recipient into force.
func (v *vaulted) order(recipient, sink string) string {
	v.t.Helper()
	now := time.Now()
	o, err := order.Order{
		ID: mail.NewID(now), Reference: "12 Gs 345/26", Who: []order.Rule{{Recipient: recipient}}, What: order.Full,
		From: now.Add(-time.Hour), Until: now.Add(time.Hour), Sink: sink,
	}.Complete()
	must(v.t, err)
	v.ask("ann", func(c *office.Client) error { return say(v.t, c)(c.Signer().RequestOrder(time.Now(), o)) })
	v.ask("bob", func(c *office.Client) error {
		text, err := o.Canonical()
		must(v.t, err)
		return say(v.t, c)(c.Signer().Answer(time.Now(), order.Approve, order.SubjectOrder, o.ID, order.Hash(text)))
	})
	return o.ID
}

func say(t *testing.T, c *office.Client) func(order.Signed, error) error {
	return func(s order.Signed, err error) error {
		must(t, err)
		_, err = c.Say(t.Context(), s)
		return err
	}
}

// stored is how many messages for a recipient the received topic holds.
func (tr *trial) stored(rcpt string) int {
	tr.t.Helper()
	out, errs, err := tr.Verb("tail", "qstream.received.v1", "--json")
	if err != nil {
		tr.t.Fatalf("read again: %v\n%s", err, errs)
	}
	ids := map[string]bool{}
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var r struct {
			Value struct {
				ID       string
				Envelope struct{ Recipients []struct{ Address string } }
			}
		}
		must(tr.t, dec.Decode(&r))
		for _, to := range r.Value.Envelope.Recipients {
			if to.Address == rcpt {
				ids[r.Value.ID] = true
			}
		}
	}
	return len(ids)
}

// nothing is asked only to know that the office is open.
func nothing(*office.Client) error { return nil }
