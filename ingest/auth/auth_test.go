package auth

import (
	"context"
	"crypto/tls"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"qstream/directory"
	"qstream/directory/password"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// snapshot has alice with both verifiers of "secret", old with a hash alone,
// bob without any, gone and away who may not sign in.
var snapshot = sync.OnceValues(func() (*directory.Snapshot, error) {
	cheap := password.Hash{Memory: 64, Passes: 1, Threads: 1, Salt: []byte("somesalt"), Key: make([]byte, 32)}
	hash := password.New("secret").String()
	verifier := password.NewVerifier("secret").String()
	text := `
{kind: tenant, name: acme, domains: [acme.example]}
---
{kind: credential, name: alice@acme.example, tenant: acme, password: "` + hash + `", scram_sha_256: "` + verifier + `"}
---
{kind: credential, name: verified, tenant: acme, scram_sha_256: "` + verifier + `"}
---
{kind: credential, name: bob, tenant: acme}
---
{kind: credential, name: gone, tenant: acme, password: "` + hash + `", scram_sha_256: "` + verifier + `", disabled: true}
---
{kind: credential, name: away, tenant: acme, password: "` + hash + `", scram_sha_256: "` + verifier + `", networks: [198.51.100.0/24]}
---
{kind: credential, name: nobody, tenant: acme, password: "` + cheap.String() + `", scram_sha_256: "` + verifier + `"}
`
	docs, err := directory.Parse(directory.File{Name: "test.yaml", Data: []byte(text)})
	if err != nil {
		return nil, err
	}
	return directory.Build(docs)
})

func authenticator(t testing.TB, cfg Config) *Authenticator {
	t.Helper()
	s, err := snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Delay == 0 {
		cfg.Delay = time.Nanosecond
	}
	a, err := New(cfg, Deps{Snapshot: func() *directory.Snapshot { return s }})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

var someone = Client{Addr: netip.MustParseAddr("192.0.2.7")}

// play gives responses; "-" is none yet.
func play(t testing.TB, a *Authenticator, mechanism string, responses ...string) (Identity, error) {
	t.Helper()
	x := a.Begin(t.Context(), someone, mechanism)
	if x == nil {
		t.Fatal(mechanism, "isn't offered")
	}
	for _, r := range responses {
		var response []byte
		if r != "-" {
			response = []byte(r)
		}
		_, done, err := x.Next(response)
		if err != nil || done {
			return x.Identity(), err
		}
	}
	t.Fatal("not done")
	return Identity{}, nil
}

func TestPasswords(t *testing.T) {
	a := authenticator(t, Config{})
	for name, tt := range map[string]struct {
		mechanism string
		responses []string
		user      string
		err       error
	}{
		"plain":             {Plain, []string{"\x00alice@acme.example\x00secret"}, "alice@acme.example", nil},
		"plain later":       {Plain, []string{"-", "\x00alice@acme.example\x00secret"}, "alice@acme.example", nil},
		"capitals":          {Plain, []string{"\x00Alice@Acme.Example\x00secret"}, "alice@acme.example", nil},
		"as itself":         {Plain, []string{"ALICE@acme.example\x00alice@acme.example\x00secret"}, "alice@acme.example", nil},
		"as another":        {Plain, []string{"bob\x00alice@acme.example\x00secret"}, "", ErrRejected},
		"by verifier":       {Plain, []string{"\x00verified\x00secret"}, "verified", nil},
		"verifier, wrong":   {Plain, []string{"\x00verified\x00secrets"}, "", ErrRejected},
		"wrong":             {Plain, []string{"\x00alice@acme.example\x00Secret"}, "", ErrRejected},
		"empty password":    {Plain, []string{"\x00alice@acme.example\x00"}, "", ErrRejected},
		"empty user":        {Plain, []string{"\x00\x00secret"}, "", ErrRejected},
		"no password there": {Plain, []string{"\x00bob\x00secret"}, "", ErrRejected},
		"nobody":            {Plain, []string{"\x00stranger\x00secret"}, "", ErrRejected},
		"disabled":          {Plain, []string{"\x00gone\x00secret"}, "", ErrRejected},
		"elsewhere":         {Plain, []string{"\x00away\x00secret"}, "", ErrRejected},
		"two parts":         {Plain, []string{"alice@acme.example\x00secret"}, "", ErrMalformed},
		"four parts":        {Plain, []string{"\x00a\x00b\x00c"}, "", ErrMalformed},
		"nothing":           {Plain, []string{""}, "", ErrMalformed},
		"login":             {Login, []string{"-", "alice@acme.example", "secret"}, "alice@acme.example", nil},
		"login initial":     {Login, []string{"alice@acme.example", "secret"}, "alice@acme.example", nil},
		"login wrong":       {Login, []string{"-", "alice@acme.example", "x"}, "", ErrRejected},
		"login empty":       {Login, []string{"-", "", ""}, "", ErrRejected},
	} {
		t.Run(name, func(t *testing.T) {
			who, err := play(t, a, tt.mechanism, tt.responses...)
			if !errors.Is(err, tt.err) || tt.err == nil && (err != nil || who != (Identity{User: tt.user, Mechanism: tt.mechanism})) {
				t.Errorf("%+v, %v", who, err)
			}
		})
	}
}

func TestMechanisms(t *testing.T) {
	secure := someone
	secure.TLS = &tls.ConnectionState{}
	for name, tt := range map[string]struct {
		cfg  Config
		c    Client
		want []string
	}{
		"all":     {Config{}, someone, []string{Scram, Plain, Login}},
		"program": {Config{Program: []string{"true"}}, someone, []string{Plain, Login}},
		"chosen":  {Config{Mechanisms: []string{Login, Scram}, Program: []string{"true"}}, someone, []string{Scram, Login}},
	} {
		if diff := cmp.Diff(tt.want, authenticator(t, tt.cfg).Mechanisms(tt.c)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	a := authenticator(t, Config{Mechanisms: []string{Login}})
	for _, m := range []string{Plain, External, ScramPlus, "GSSAPI", ""} {
		if a.Begin(t.Context(), secure, m) != nil {
			t.Errorf("%s is offered", m)
		}
	}
	if _, err := New(Config{Mechanisms: []string{"CRAM-MD5"}}, Deps{Snapshot: func() *directory.Snapshot { return nil }}); err == nil {
		t.Error("an unknown mechanism was taken")
	}
	if _, err := New(Config{}, Deps{}); err == nil {
		t.Error("no directory was taken")
	}
	none, err := New(Config{}, Deps{Snapshot: func() *directory.Snapshot { return nil }})
	if err != nil || none.Mechanisms(someone) != nil || none.Begin(t.Context(), someone, Plain) != nil {
		t.Error("offers without a directory")
	}
}

// A failure is answered late, the same for all reasons; more failures later;
// after very many, nothing is checked any more.
func TestFailuresAreSlowed(t *testing.T) {
	const delay = 80 * time.Millisecond
	a := authenticator(t, Config{Delay: delay})
	for _, r := range []string{"\x00alice@acme.example\x00x", "\x00stranger\x00x", "\x00gone\x00secret", "\x00\xff\x00x"} {
		started := time.Now()
		if _, err := play(t, a, Plain, r); !errors.Is(err, ErrRejected) || time.Since(started) < delay {
			t.Errorf("%q: %v after %v", r, err, time.Since(started))
		}
	}
	a = authenticator(t, Config{})
	for range 2 * bar {
		if _, err := play(t, a, Plain, "\x00stranger\x00x"); errors.Is(err, ErrBusy) {
			return
		}
	}
	t.Error("never barred")
}

func TestPenaltiesFade(t *testing.T) {
	p, now := newPenalties(), time.Now()
	addr := netip.MustParseAddr("2001:db8::1")
	for range bar {
		p.add(addr, now)
	}
	if !p.barred(netip.MustParseAddr("2001:db8::2"), now) || p.barred(netip.MustParseAddr("2001:db8:1::2"), now) || p.barred(addr, now.Add(2*forget)) {
		t.Error("the wrong ones are barred")
	}
	if n := p.add(addr, now.Add(bar*forget)); n != 1 {
		t.Error("not forgotten")
	}
	for i := range 2 * maxPenalties {
		p.add(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), now)
	}
	if len(p.count) > maxPenalties {
		t.Errorf("%d kept", len(p.count))
	}
}

// Checks wait for their turn, and not for long; what is known needs none.
func TestTurns(t *testing.T) {
	a := authenticator(t, Config{Checks: 1, Memory: 1 << 20, Wait: 50 * time.Millisecond})
	const good = "\x00alice@acme.example\x00secret"
	if _, err := play(t, a, Plain, good); err != nil {
		t.Fatal("more memory than there is:", err)
	}
	hold, held := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := a.checks.take(context.Background(), 8, func() { close(held); <-hold }); err != nil {
			t.Error(err)
		}
	})
	<-held
	if _, err := play(t, a, Plain, good); err != nil {
		t.Error("a known password waits:", err)
	}
	for _, r := range []string{"\x00alice@acme.example\x00wrong", "\x00stranger\x00secret", "\x00verified\x00secret"} {
		if _, err := play(t, a, Plain, r); !errors.Is(err, ErrBusy) {
			t.Errorf("%q: %v", r, err)
		}
	}
	for range maxWaiting {
		select {
		case a.checks.queue <- struct{}{}:
		default:
		}
	}
	if err := a.checks.take(t.Context(), 8, func() {}); !errors.Is(err, ErrBusy) {
		t.Error("the queue has no end")
	}
	close(hold)
	wg.Wait()
}

func TestKnown(t *testing.T) {
	k, now := newKnown(), time.Now()
	k.add("hash", "pass", now)
	if !k.has("hash", "pass", now) || k.has("hash2", "pass", now) || k.has("hash", "pass2", now) || k.has("hash", "pass", now.Add(knownFor)) {
		t.Error("knows the wrong ones")
	}
}

// program writes a shell script.
func program(t *testing.T, text string) []string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "check")
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return []string{name, "argument"}
}

func TestCheckpassword(t *testing.T) {
	const good = "\x00carol@acme.example\x00pass word"
	for name, tt := range map[string]struct {
		text string
		err  error
	}{
		"yes":          {`[ "$(tr '\0' ' ' <&3 | cut -d' ' -f1-3)" = "carol@acme.example pass word" ] && [ "$1 $TCPREMOTEIP $PROTO" = "argument 192.0.2.7 TCP" ]`, nil},
		"reads none":   {"exit 0", nil},
		"no":           {"exit 1", ErrRejected},
		"misused":      {"exit 2", errors.ErrUnsupported},
		"trouble":      {"exit 111", errors.ErrUnsupported},
		"killed":       {"kill -9 $$", errors.ErrUnsupported},
		"hangs":        {"sleep 60 & sleep 60", errors.ErrUnsupported},
		"secret env":   {`[ -z "$QSTREAM_SECRET" ]`, nil},
		"time stamp":   {`[ "$(tr '\0' '\n' <&3 | sed -n 3p)" -gt 1000000 ]`, nil},
		"closed stdin": {`[ -z "$(cat)" ]`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("QSTREAM_SECRET", "x")
			a := authenticator(t, Config{Program: program(t, tt.text), ProgramTimeout: 500 * time.Millisecond})
			who, err := play(t, a, Plain, good)
			switch {
			case tt.err == nil:
				if err != nil || who.User != "carol@acme.example" || !who.Vouched {
					t.Errorf("%+v, %v", who, err)
				}
			case errors.Is(tt.err, ErrRejected) != errors.Is(err, ErrRejected) || err == nil || strings.Contains(err.Error(), "pass word"):
				t.Error(err)
			}
		})
	}
	a := authenticator(t, Config{Program: program(t, "exit 0")})
	if who, err := play(t, a, Plain, "\x00alice@acme.example\x00wrong"); !errors.Is(err, ErrRejected) {
		t.Error("the program was asked about a user with a password here", who)
	}
	if who, err := play(t, a, Plain, "\x00gone\x00wrong"); !errors.Is(err, ErrRejected) {
		t.Error("disabled:", who)
	}
	if who, err := play(t, a, Plain, "\x00bob\x00any"); err != nil || who.User != "bob" || !who.Vouched {
		t.Error(who, err)
	}
	if _, err := play(t, a, Plain, "\x00carol\x00"+strings.Repeat("x", 512)); !errors.Is(err, ErrRejected) {
		t.Error("too long:", err)
	}
	a = authenticator(t, Config{Program: []string{"/does/not/exist"}})
	if _, err := play(t, a, Plain, good); err == nil || errors.Is(err, ErrRejected) {
		t.Error("missing program:", err)
	}
	a = authenticator(t, Config{Program: []string{"true"}, ProgramLimit: 1, Wait: 20 * time.Millisecond})
	a.programs <- struct{}{}
	if _, err := play(t, a, Plain, good); !errors.Is(err, ErrBusy) {
		t.Error("too many:", err)
	}
}
