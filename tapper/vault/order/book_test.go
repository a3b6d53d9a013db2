package order

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// person is an officer with his private key.
func person(name string) (Officer, ed25519.PrivateKey) {
	seed := bytes.Repeat([]byte(name), ed25519.SeedSize)[:ed25519.SeedSize]
	key := ed25519.NewKeyFromSeed(seed)
	return Officer{Name: name, Key: key.Public().(ed25519.PublicKey)}, key
}

// office is a vault of ann and bob, with what they need to speak.
type office struct {
	t    testing.TB
	book *Book
	now  time.Time
}

func newOffice(t testing.TB) *office {
	ann, _ := person("ann")
	bob, _ := person("bob")
	f, err := Found(bob, ann)
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewBook(f)
	if err != nil {
		t.Fatal(err)
	}
	return &office{t, b, start}
}

func (o *office) signer(name string) Signer {
	_, key := person(name)
	return Signer{Vault: o.book.Vault(), Name: name, Key: key}
}

func (o *office) signed(s Signed, err error) Signed {
	o.t.Helper()
	if err != nil {
		o.t.Fatal(err)
	}
	return s
}

func (o *office) request(name string, ord Order) Signed {
	o.t.Helper()
	return o.signed(o.signer(name).RequestOrder(o.now, ord))
}

func (o *office) answer(name, verb, id string) Signed {
	o.t.Helper()
	subject, hash := SubjectOrder, ""
	if t := o.book.Tap(id); t != nil {
		hash = t.Hash
	}
	if p := o.book.Proposal(id); p != nil {
		subject, hash = SubjectOfficer, p.Hash
	}
	return o.signed(o.signer(name).Answer(o.now, verb, subject, id, hash))
}

func (o *office) change(name string, c Change) Signed {
	o.t.Helper()
	return o.signed(o.signer(name).RequestChange(o.now, c))
}

// take applies a statement now; want is the error, nil for none.
func (o *office) take(s Signed, want error) {
	o.t.Helper()
	before := o.state()
	if err := o.book.Apply(Entry{o.now, s}); !errors.Is(err, want) || (err == nil) != (want == nil) {
		o.t.Fatalf("%s: %v, want %v", s.Statement, err, want)
	}
	if after := o.state(); want != nil && after != before {
		o.t.Fatalf("a refused statement changed something:\n%s\n%s", before, after)
	}
}

// state is all that a book says.
func (o *office) state() string {
	text, err := json.Marshal([]any{o.book.Officers(), o.book.Changes(), o.book.Taps(), o.book.Proposals()})
	if err != nil {
		o.t.Fatal(err)
	}
	return string(text)
}

func (o *office) is(id, state string) {
	o.t.Helper()
	if got := o.book.Tap(id).State(o.now); got != state {
		o.t.Fatalf("order is %s at %s, want %s", got, o.now, state)
	}
}

func TestFourEyes(t *testing.T) {
	o, id := newOffice(t), newID()
	o.take(o.request("ann", sample(id)), nil)
	o.is(id, Requested)
	o.take(o.answer("ann", Approve, id), ErrOwn)
	o.is(id, Requested)
	o.take(o.answer("eve", Approve, id), ErrForged)
	asBob := o.signer("eve")
	asBob.Name = "bob"
	o.take(o.signed(asBob.Answer(o.now, Approve, SubjectOrder, id, o.book.Tap(id).Hash)), ErrForged)
	if got := o.book.Matcher().Match(Message{Recipients: []string{"bob@acme.example"}}, o.now); len(got) > 0 {
		t.Fatal("an order that only one asked for matches")
	}
	o.now = o.now.Add(time.Hour)
	o.take(o.answer("bob", Approve, id), nil)
	o.is(id, InForce)
	o.take(o.answer("bob", Approve, id), ErrState)
	tap := o.book.Tap(id)
	want := &Tap{
		Order: tap.Order, Hash: tap.Hash, Requested: Decision{"ann", start}, Approved: Decision{"bob", start.Add(time.Hour)},
	}
	if diff := cmp.Diff(want, tap); diff != "" {
		t.Error(diff)
	}
}

// An order lives and ends by time alone.
func TestTimes(t *testing.T) {
	o, id := newOffice(t), newID()
	ord := sample(id)
	ord.From, ord.Until = start.Add(time.Hour), start.Add(3*time.Hour)
	o.take(o.request("ann", ord), nil)
	o.take(o.answer("bob", Approve, id), nil)
	for _, c := range []struct {
		after time.Duration
		state string
	}{{0, Pending}, {time.Hour - 1, Pending}, {time.Hour, InForce}, {3*time.Hour - 1, InForce}, {3 * time.Hour, Expired}, {9000 * time.Hour, Expired}} {
		o.now = start.Add(c.after)
		o.is(id, c.state)
		covers := o.book.Tap(id).Covers(o.now)
		if matches := len(o.book.Matcher().Match(Message{Recipients: []string{"bob@acme.example"}}, o.now)) == 1; covers != (c.state == InForce) || matches != covers {
			t.Errorf("%s: covers %v, matches %v", c.state, covers, matches)
		}
	}
	o.take(o.answer("bob", Revoke, id), ErrState)
}

func TestRequestsLapse(t *testing.T) {
	o, id, soon := newOffice(t), newID(), newID()
	o.take(o.request("ann", sample(id)), nil)
	short := sample(soon)
	short.Until = start.Add(time.Hour)
	o.take(o.request("ann", short), nil)
	o.now = start.Add(time.Hour)
	o.is(soon, Lapsed)
	o.take(o.answer("bob", Approve, soon), ErrState)
	o.now = start.Add(ApproveWithin)
	o.is(id, Requested)
	o.now = o.now.Add(1)
	o.is(id, Lapsed)
	o.take(o.answer("bob", Approve, id), ErrState)
	o.take(o.answer("ann", Revoke, id), ErrState)
	late := sample(newID())
	late.From, late.Until = start, start.Add(time.Hour)
	o.take(o.request("ann", late), ErrState)
}

func TestRevoke(t *testing.T) {
	o, id, other := newOffice(t), newID(), newID()
	o.take(o.request("ann", sample(id)), nil)
	o.take(o.request("bob", sample(other)), nil)
	o.take(o.answer("bob", Approve, id), nil)
	o.take(o.answer("ann", Revoke, other), nil)
	o.is(other, Withdrawn)
	o.take(o.answer("ann", Approve, other), ErrState)
	o.now = start.Add(time.Hour)
	o.take(o.answer("ann", Revoke, id), nil)
	o.is(id, Revoked)
	tap := o.book.Tap(id)
	if !tap.Covers(start.Add(time.Hour-1)) || tap.Covers(start.Add(time.Hour)) {
		t.Error("a revocation holds from its time on")
	}
	o.take(o.answer("bob", Approve, id), ErrState)
	o.take(o.answer("bob", Revoke, id), ErrState)
}

func TestForgedStaleRepeated(t *testing.T) {
	o, id := newOffice(t), newID()
	request := o.request("ann", sample(id))
	changed := func(change func(*Statement)) Signed {
		var st Statement
		if err := json.Unmarshal(request.Statement, &st); err != nil {
			t.Fatal(err)
		}
		change(&st)
		text, err := json.Marshal(st)
		if err != nil {
			t.Fatal(err)
		}
		return Signed{Statement: text, Signature: request.Signature, Subject: request.Subject}
	}
	o.take(changed(func(st *Statement) { st.ID = newID() }), ErrForged)
	o.take(changed(func(st *Statement) { st.At = st.At.Add(time.Second) }), ErrForged)
	o.take(changed(func(st *Statement) { st.Officer = "bob" }), ErrForged)
	o.take(changed(func(st *Statement) { st.Vault = "x" }), ErrForged)
	o.take(changed(func(st *Statement) { st.Format = "x" }), ErrForged)
	o.take(Signed{Statement: request.Statement, Signature: request.Signature}, ErrForged)
	o.take(Signed{Statement: request.Statement, Signature: request.Signature[1:], Subject: request.Subject}, ErrForged)
	o.take(Signed{Statement: append([]byte(" "), request.Statement...), Signature: request.Signature, Subject: request.Subject}, ErrForged)
	o.take(Signed{Statement: request.Statement, Signature: request.Signature, Subject: bytes.Replace(request.Subject, []byte("bob"), []byte("ann"), 1)}, ErrForged)
	o.take(Signed{}, ErrForged)
	foreign := o.signer("ann")
	foreign.Vault = "another"
	o.take(o.signed(foreign.RequestOrder(o.now, sample(id))), ErrForged)
	unknown := o.signer("ann")
	o.take(o.signed(unknown.sign(o.now, "sell", SubjectOrder, id, "")), ErrNone)
	o.take(o.signed(unknown.sign(o.now, Approve, "vault", id, "")), ErrForged)

	o.now = start.Add(Fresh + 1)
	o.take(request, ErrStale)
	o.now = start.Add(-Fresh - 1)
	o.take(request, ErrStale)
	o.now = start.Add(Fresh)
	o.take(request, nil)
	o.take(request, ErrRepeat)
	o.take(o.signed(o.signer("bob").Answer(o.now, Approve, SubjectOrder, id, Hash([]byte("another order")))), ErrNone)
	o.take(o.signed(o.signer("bob").Answer(o.now, Approve, SubjectOrder, newID(), o.book.Tap(id).Hash)), ErrNone)
	o.take(o.signed(unknown.sign(o.now, "sell", SubjectOrder, id, o.book.Tap(id).Hash)), ErrForged)

	// An approval that is kept back doesn't bring a revoked order to life, nor
	// does the request.
	approval := o.answer("bob", Approve, id)
	o.take(o.answer("ann", Revoke, id), nil)
	o.take(approval, ErrState)
	o.take(request, ErrRepeat)
}

func TestOfficersChange(t *testing.T) {
	o := newOffice(t)
	eve, _ := person("eve")
	add := Change{ID: newID(), Add: &eve}
	addition := o.change("ann", add)
	o.take(addition, nil)
	o.take(addition, ErrRepeat)
	o.take(o.answer("ann", Approve, add.ID), ErrOwn)
	o.take(o.answer("eve", Approve, add.ID), ErrForged)
	other := Change{ID: newID(), Add: &Officer{Name: "zoe", Key: eve.Key}}
	o.take(o.change("bob", other), nil)
	o.take(o.answer("bob", Approve, add.ID), nil)
	if diff := cmp.Diff([]string{"ann", "bob", "eve"}, names(o.book)); diff != "" {
		t.Fatal(diff)
	}
	o.take(o.answer("ann", Approve, other.ID), ErrState) // on another base
	o.take(o.answer("ann", Revoke, other.ID), nil)
	o.take(o.answer("ann", Revoke, other.ID), ErrState)
	// Who asked may take it back alone; then nobody can approve it.
	fay, _ := person("fay")
	taken := Change{ID: newID(), Add: &fay, Base: 1}
	o.take(o.change("bob", taken), nil)
	if !o.book.Proposal(taken.ID).Open(o.now, 1) || o.book.Proposal(taken.ID).Open(o.now, 2) || o.book.Proposal(taken.ID).Open(o.now.Add(ApproveWithin+1), 1) {
		t.Error("a request waits while it is fresh and on the officers of now")
	}
	o.take(o.answer("bob", Revoke, taken.ID), nil)
	o.take(o.answer("ann", Approve, taken.ID), ErrState)
	if o.book.Proposal(taken.ID).Open(o.now, 1) {
		t.Error("it waits though it was taken back")
	}
	o.take(o.change("bob", Change{ID: newID(), Add: &Officer{Name: "zoe", Key: eve.Key}, Base: 1}), ErrState) // eve's key
	o.take(o.change("bob", Change{ID: newID(), Remove: "zoe", Base: 1}), ErrState)
	o.take(o.change("bob", Change{ID: newID(), Remove: "ann"}), ErrState) // on an old base

	// What an officer asked for falls with him; what was approved stays.
	waiting, standing := newID(), newID()
	o.take(o.request("ann", sample(waiting)), nil)
	o.take(o.request("ann", sample(standing)), nil)
	o.take(o.answer("bob", Approve, standing), nil)
	remove := Change{ID: newID(), Remove: "ann", Base: 1}
	o.take(o.change("eve", remove), nil)
	o.take(o.answer("bob", Approve, remove.ID), nil)
	o.take(o.request("ann", sample(newID())), ErrForged)
	o.take(o.answer("eve", Approve, waiting), ErrState)
	o.is(standing, InForce)
	// Two must remain.
	o.take(o.change("eve", Change{ID: newID(), Remove: "bob", Base: 2}), ErrState)
	// A request about officers lapses.
	zoe, _ := person("zoe")
	late := Change{ID: newID(), Add: &zoe, Base: 2}
	o.take(o.change("eve", late), nil)
	o.now = o.now.Add(ApproveWithin + 1)
	o.take(o.answer("bob", Approve, late.ID), ErrState)
}

func names(b *Book) (all []string) {
	for _, o := range b.Officers().List() {
		all = append(all, o.Name)
	}
	return all
}

func TestFounding(t *testing.T) {
	ann, _ := person("ann")
	bob, _ := person("bob")
	f, err := Found(ann, bob)
	if err != nil {
		t.Fatal(err)
	}
	text, err := f.Write()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ReadFounding(text)
	if err != nil || again.ID() != f.ID() {
		t.Errorf("%v: %s, want %s", err, again.ID(), f.ID())
	}
	if other, _ := Found(ann, bob); other.ID() == f.ID() {
		t.Error("two vaults are one")
	}
	for name, first := range map[string][]Officer{
		"nobody": nil, "one": {ann}, "one twice": {ann, ann}, "one key twice": {ann, {Name: "bob", Key: ann.Key}},
		"a bad name": {ann, {Name: "Bob", Key: bob.Key}}, "no key": {ann, {Name: "bob"}},
	} {
		if _, err := Found(first...); err == nil {
			t.Errorf("%s can found a vault", name)
		}
	}
	if _, err := ReadFounding(bytes.Replace(text, []byte(foundingFormat), []byte("x"), 1)); err == nil {
		t.Error("another format is read")
	}
	if _, err := NewBook(Founding{}); err == nil {
		t.Error("a book of no vault")
	}
}

// The same entries make the same book; orders that ended long ago can be left
// out without another one changing.
func TestBookFromEntries(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		o := newOffice(t)
		o.now = start
		ids := []string{newID(), newID(), newID(), newID()}
		for range rapid.IntRange(0, 25).Draw(r, "statements") {
			o.now = o.now.Add(time.Duration(rapid.IntRange(0, 72).Draw(r, "hours")) * time.Hour)
			who := rapid.SampledFrom([]string{"ann", "bob", "eve"}).Draw(r, "who")
			id := rapid.SampledFrom(ids).Draw(r, "id")
			var s Signed
			switch verb := rapid.SampledFrom([]string{Request, Approve, Revoke, "add", "remove"}).Draw(r, "verb"); verb {
			case Request:
				ord := sample(id)
				ord.Until = start.Add(time.Duration(rapid.IntRange(1, 2000).Draw(r, "until")) * time.Hour)
				s = o.request(who, ord)
			case "add":
				eve, _ := person("eve")
				s = o.change(who, Change{ID: newID(), Add: &eve, Base: o.book.Changes()})
			case "remove":
				s = o.change(who, Change{ID: newID(), Remove: "eve", Base: o.book.Changes()})
			default:
				if ps := o.book.Proposals(); len(ps) > 0 && rapid.Bool().Draw(r, "officers") {
					id = ps[len(ps)-1].Change.ID
				}
				s = o.answer(who, verb, id)
			}
			before := o.state()
			if err := o.book.Apply(Entry{o.now, s}); err != nil && o.state() != before {
				r.Fatalf("refused (%v), but something changed", err)
			}
		}
		for _, tap := range o.book.Taps() {
			if tap.Approved.Made() && tap.Approved.By == tap.Requested.By {
				r.Fatalf("one officer alone made %+v", tap)
			}
		}
		again := &office{t: t, book: bookOf(r, o.book, o.book.Entries(time.Time{})), now: o.now}
		if again.state() != o.state() {
			r.Fatalf("another book:\n%s\n%s", o.state(), again.state())
		}
		pruned := bookOf(r, o.book, o.book.Entries(o.now))
		for _, tap := range o.book.Taps() {
			got := pruned.Tap(tap.Order.ID)
			if ended := tap.Ends().Before(o.now); ended != (got == nil) || got != nil && !cmp.Equal(got, tap) {
				r.Fatalf("ended %v: %+v, want %+v", ended, got, tap)
			}
		}
	})
}

func bookOf(r *rapid.T, from *Book, entries []Entry) *Book {
	b, err := NewBook(from.founding)
	if err != nil {
		r.Fatal(err)
	}
	for _, e := range entries {
		if err := b.Apply(e); err != nil {
			r.Fatalf("%s: %v", e.Signed.Statement, err)
		}
	}
	return b
}

// A fork goes its own way.
func TestFork(t *testing.T) {
	o, id := newOffice(t), newID()
	o.take(o.request("ann", sample(id)), nil)
	f := &office{t, o.book.Fork(), o.now}
	f.take(f.answer("bob", Approve, id), nil)
	o.is(id, Requested)
	f.is(id, InForce)
	o.take(o.answer("bob", Revoke, id), nil)
	f.is(id, InForce)
	if len(o.book.Entries(time.Time{})) != 2 || len(f.book.Entries(time.Time{})) != 2 {
		t.Error("entries are shared")
	}
}

func FuzzStatement(f *testing.F) {
	o := newOffice(f)
	s := o.request("ann", sample(newID()))
	f.Add(s.Statement, s.Signature, s.Subject)
	f.Add([]byte(`{}`), []byte{}, []byte(strings.Repeat("{", 100)))
	f.Fuzz(func(t *testing.T, statement, signature, subject []byte) {
		b := o.book.Fork()
		err := b.Apply(Entry{start, Signed{statement, signature, subject}})
		known := bytes.Equal(statement, s.Statement) && bytes.Equal(signature, s.Signature) && bytes.Equal(subject, s.Subject)
		if (err == nil) != known {
			t.Fatalf("%v", err)
		}
	})
}
