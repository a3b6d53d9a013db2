package crash

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"qstream/mail"
	"qstream/tapper/vault"
	"qstream/tapper/vault/docket"
	"qstream/tapper/vault/office"
	"qstream/tapper/vault/order"
	"qstream/test/fakemx"
	"qstream/test/rig"
)

// covered is whom the orders of these trials are about.
const covered = "user@acme.example"

// TestVaultKilled kills the process that has the vault, again and again under
// load, while the sink of one of two orders takes nothing: what they cover is in
// the lanes once and at their sinks, with outcomes.
func TestVaultKilled(t *testing.T) {
	each(t, "embedded,kafka1", "kafka3", func(t *testing.T, broker string) {
		v := found(t)
		tr := start(t, broker, false, fakemx.Config{}, "--vault", v.dir, "--vault-beat", "500ms")
		o, dead := tr.order(v), tr.order(v)
		must(t, os.WriteFile(dead.sink, nil, 0o600)) // a file where a folder should be
		tr.begin(10, 50, 0)
		for i := range 4 {
			time.Sleep(time.Duration(1500+737*i%900) * time.Millisecond) // points of no meaning
			must(t, tr.Signal("up", syscall.SIGKILL))
			must(t, tr.Again("up"))
		}
		time.Sleep(time.Second)
		tr.end()
		tr.settle("4 kills of a vault's process", 4*inFlight)
		o.complete()
		if r := dead.report(); int(r.Open) != r.Copies+r.Outcomes || r.Copies == 0 || len(r.Gaps) > 0 {
			t.Errorf("with a sink that takes nothing: %+v", r)
		}
		must(t, os.Remove(dead.sink))
		dead.complete()
	})
}

// TestVaultBrokers kills brokers under load and starts them again: each once, so
// that every lane loses its leader, and of three two at a time, so that nothing
// can be written. What an order covers is in the lanes once and at its sink, with
// outcomes.
func TestVaultBrokers(t *testing.T) {
	each(t, "kafka1,kafka3", "", func(t *testing.T, broker string) {
		v := found(t)
		tr := start(t, broker, false, fakemx.Config{}, "--vault", v.dir, "--vault-beat", "500ms")
		o := tr.order(v)
		tr.begin(10, 50, 0)
		waitFor(t, "the first copies", func() bool { return o.count() > 20 })
		kills := [][]int{{0}, {1, 2}}
		switch {
		case broker == "kafka1":
			kills = [][]int{{0}}
		case long:
			kills = [][]int{{0}, {1}, {2}, {0, 1}, {1, 2}, {0, 2}}
		}
		for _, down := range kills {
			before := tr.load.Accepted()
			for _, i := range down {
				must(t, tr.Kafka.Brokers[i].Kill())
			}
			time.Sleep(8 * time.Second) // longer than a broker's session
			t.Logf("%d of %d brokers killed: %d mails accepted meanwhile", len(down), len(tr.Kafka.Brokers), tr.load.Accepted()-before)
			var starts errgroup.Group
			for _, i := range down {
				starts.Go(func() error { return tr.Kafka.Brokers[i].Start(t.Context()) })
			}
			must(t, starts.Wait())
			before = tr.load.Accepted()
			waitFor(t, "mail to be accepted again", func() bool { return tr.load.Accepted() > before+20 })
		}
		tr.end()
		// Without a quorum the worker is cut off until its session is lost.
		tr.settle("brokers killed beside a vault", inFlight*len(kills))
		o.complete()
	})
}

// ordered is an order about the mail of one recipient, and its sink.
type ordered struct {
	*trial
	v    *vaulted
	id   string
	sink string
}

// order brings an order about mail for covered into force, whose sink is a
// Maildir that isn't there yet.
func (tr *trial) order(v *vaulted) *ordered {
	tr.t.Helper()
	o := &ordered{tr, v, "", filepath.Join(tr.t.TempDir(), "taps")}
	o.id = v.order(covered, "maildir:"+o.sink)
	return o
}

// complete waits until the order's report says that nothing is open, and
// compares it with what was accepted and with what is at the sink: each message
// that is covered is copied once, with its outcomes, and in the order of its lane.
func (o *ordered) complete() {
	o.t.Helper()
	want := o.stored(covered)
	r := o.report()
	done := func() bool {
		return r.Unread == 0 && r.Open == 0 && r.Copies >= len(want) && r.Outcomes >= len(want)
	}
	for end := time.Now().Add(rig.Patience); !done() && time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
		before := r
		if r = o.report(); r.Open != before.Open || r.Copies+r.Outcomes != before.Copies+before.Outcomes {
			end = time.Now().Add(rig.Patience) // as long as it moves, it may be slow
		}
	}
	if r.Copies != len(want) || r.Outcomes < len(want) || len(r.Gaps) > 0 || r.Unread > 0 || r.Open > 0 {
		o.t.Errorf("%d messages are covered; the report: %+v", len(want), r)
	}
	objects, ids := o.objects(), map[string]bool{}
	copies, outcomes, last := map[string]int{}, map[string]int{}, map[string]object{}
	for _, b := range objects {
		ids[b.id] = true
		if b.outcome {
			outcomes[b.message]++
		} else {
			copies[b.message]++
		}
		if before := last[b.lane]; before.sequence == b.sequence || before.at.After(b.at) {
			o.t.Errorf("out of order in lane %s: %s at %v, %s at %v", b.lane, before.id, before.at, b.id, b.at)
		}
		last[b.lane] = b
	}
	o.t.Logf("%d messages covered, %d copies, %d outcomes, %d objects at the sink, %d of them different", len(want), r.Copies, r.Outcomes, len(objects), len(ids))
	if len(ids) != r.Copies+r.Outcomes {
		o.t.Errorf("%d different objects at the sink, want %d copies and %d outcomes", len(ids), r.Copies, r.Outcomes)
	}
	for id := range want {
		if copies[id] != 1 || outcomes[id] == 0 {
			o.t.Errorf("message %s has %d copies at the sink, and %d outcomes", id, copies[id], outcomes[id])
		}
	}
}

// report is the order's gap report.
func (o *ordered) report() (r vault.Report) {
	o.t.Helper()
	o.v.ask("ann", func(c *office.Client) error {
		r = vault.Report{}
		return c.Ask(o.t.Context(), office.VerbGaps, office.IDArgs{ID: o.id}, &r)
	})
	return r
}

// object is a file at the sink of an order.
type object struct {
	id, lane string
	sequence int
	message  string
	outcome  bool
	at       time.Time // when it came
}

var (
	copyLine    = regexp.MustCompile(`(?m)^X-Qstream-Copy: (\S+-(\d\d)-(\d+))\r?$`)
	messageLine = regexp.MustCompile(`\b(?:id|(Outcome) of) ([0-9A-Z]{26})\b`)
)

// objects are those at the sink, in the order of their numbers.
func (o *ordered) objects() (all []object) {
	o.t.Helper()
	files, err := filepath.Glob(filepath.Join(o.sink, "new", "*"))
	must(o.t, err)
	for _, f := range files {
		text, err := os.ReadFile(f)
		must(o.t, err)
		is, err := os.Stat(f)
		must(o.t, err)
		name, of := copyLine.FindStringSubmatch(string(text)), messageLine.FindStringSubmatch(string(text))
		if name == nil || of == nil {
			o.t.Fatalf("%s is no copy:\n%.2000s", f, text)
		}
		n, err := strconv.Atoi(name[3])
		must(o.t, err)
		all = append(all, object{name[1], name[2], n, of[2], of[1] != "", is.ModTime()})
	}
	slices.SortFunc(all, func(x, y object) int { return x.sequence - y.sequence })
	return all
}

// count is how many objects are at the sink.
func (o *ordered) count() int {
	files, _ := os.ReadDir(filepath.Join(o.sink, "new")) // not there yet: none
	return len(files)
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
		From: now.Add(-time.Hour), Until: now.Add(24 * time.Hour), Sink: sink,
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

// stored are the messages for a recipient on the received topic.
func (tr *trial) stored(rcpt string) map[string]bool {
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
	return ids
}

// nothing is asked only to know that the office is open.
func nothing(*office.Client) error { return nil }
