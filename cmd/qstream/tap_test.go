package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"qstream/bus/bustest"
	"qstream/directory"
	"qstream/mail"
	"qstream/tapper/vault"
	"qstream/tapper/vault/docket"
	"qstream/tapper/vault/order"
)

// office is a folder with a vault, whose tapper runs until it is stopped.
type tapOffice struct {
	dir  string // with vault, ann.pem, bob.pem
	stop func()
}

func newTapOffice(t *testing.T) tapOffice {
	t.Helper()
	dir := t.TempDir()
	var first []order.Officer
	for _, name := range []string{"ann", "bob"} {
		if code, said := tap(dir, "officer new "+name+".pem"); code != exitDone {
			t.Fatal(said)
		}
		o, err := readOfficer(name, filepath.Join(dir, name+".pem.pub"))
		if err != nil {
			t.Fatal(err)
		}
		first = append(first, o)
	}
	folder, err := docket.Found(filepath.Join(dir, "vault"), first...)
	if err != nil {
		t.Fatal(err)
	}
	b := bustest.New(t)
	v, err := vault.New(vault.Config{Dir: folder.Dir, Me: "mx.example", Beat: 20 * time.Millisecond, LaneBeat: 20 * time.Millisecond}, vault.Deps{
		Bus: b, Directory: directory.Follow(b), Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- v.Run(ctx) }()
	for end := time.Now().Add(time.Minute); v.Ready() != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the vault never opens")
		}
	}
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return tapOffice{dir, stop}
}

// tap runs a verb; words that name a file are of dir.
func tap(dir, args string) (code int, said string) {
	words := strings.Fields("tap " + args)
	for i, w := range words {
		if at := strings.IndexByte(w, '@'); at >= 0 {
			words[i] = w[:at] + filepath.Join(dir, w[at+1:])
		} else if strings.HasSuffix(w, ".pem") {
			words[i] = filepath.Join(dir, w)
		}
	}
	var out, errs bytes.Buffer
	code = run(words, nil, &out, &errs)
	return code, out.String() + errs.String()
}

// Each verb that fails says what happened, where, and what to do.
func TestTapMessages(t *testing.T) {
	o := newTapOffice(t)
	for name, mode := range map[string]os.FileMode{"empty": 0o700, "open": 0o755} {
		if err := os.Mkdir(filepath.Join(o.dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	const request = "kind: tap\nreference: 12 Gs 345/26\nwho: [{recipient: bob@acme.example}]\nwhat: full\nuntil: 30d\nsink: maildir:/srv/taps/345\n"
	if err := os.WriteFile(filepath.Join(o.dir, "order.yaml"), []byte(request), 0o600); err != nil {
		t.Fatal(err)
	}
	const ann = " --vault @vault --as ann --key ann.pem "
	code, said := tap(o.dir, "order request"+ann+"@order.yaml")
	id, _, _ := strings.Cut(said, " ")
	if code != exitDone {
		t.Fatal(said)
	}
	none := mail.NewID(time.Now())
	for _, c := range []struct {
		args string
		code int
		want []string // all of it is said
	}{
		{"order show" + ann + none, exitNotFound, []string{"the vault has no order " + none, "qstream tap order list --ended"}},
		{"order approve" + ann + none, exitNotFound, []string{"the vault has no order " + none, "qstream tap order list --ended"}},
		{"order revoke" + ann + strings.ToLower(none), exitNotFound, []string{"the vault has no order " + none, "qstream tap order list --ended"}},
		{"gaps" + ann + none, exitNotFound, []string{"the vault has no order " + none, "qstream tap order list --ended"}},
		{"gaps" + ann + id, exitFailed, []string{"order " + id + " is requested and was never approved", "no copies"}},
		{"order approve" + ann + id, exitFailed, []string{"another officer must approve"}},
		{"order approve --vault @vault --as bob --key bob.pem --hash 00 " + id, exitFailed, []string{"order " + id, "not 00", "qstream tap order show"}},
		{"officer remove" + ann + "eve", exitNotFound, []string{"the vault has no officer eve", "qstream tap officer list"}},
		{"officer withdraw" + ann + "eve", exitNotFound, []string{"nothing about eve waits", "qstream tap officer list"}},
		{"officer add" + ann + "ann @ann.pem.pub", exitFailed, []string{"has an officer ann already, key ", "remove that one first"}},
		{"officer add" + ann + "eve ann.pem", exitUsage, []string{"officer eve: ", "ann.pem: want a public key", "FILE.pub", "qstream tap officer new"}},
		{"order list --vault @vault --as eve --key ann.pem", exitFailed, []string{"the vault doesn't know you", "right vault, officer and key"}},

		// Where the vault is.
		{"order list --as ann --key ann.pem", exitUsage, []string{"--vault or --office"}},
		{"order list --office 127.0.0.1:9" + ann, exitUsage, []string{"--vault is a tapper on this host, --office one elsewhere", "one of them"}},
		{"order list --office 127.0.0.1:9 --as ann --key ann.pem", exitUsage, []string{"--office needs --cert, --cert-key and --ca"}},
		{"order list --office 127.0.0.1:9 --cert ann.pem --cert-key bob.pem --ca @no --as ann --key ann.pem", exitUsage, []string{"--cert ", "/ann.pem", "its key ", "/bob.pem"}},
		{"order list --vault @no --as ann --key ann.pem", exitUsage, []string{"--vault: there is no vault in ", "/no;", "qstream tap init", "--office"}},
		{"keys list --vault @empty --as ann --key ann.pem", exitUsage, []string{"--vault: ", "/empty has no key", "qstream tap init", "copy that of another tapper"}},
		{"audit --vault @open --as ann --key ann.pem", exitUsage, []string{"--vault: ", "/open: want a folder that only its owner may look into (mode 0700)"}},

		// Who asks, and with what.
		{"order list --vault @vault --as ann", exitUsage, []string{"--key=FILE", "See: qstream tap order list --help"}},
		{"order list --vault @vault --as ann --key @no", exitUsage, []string{"--key: ", "/no: no such file", "See: qstream tap order list --help"}},
		{"order list --vault @vault --as ann --key @ann.pem.pub", exitUsage, []string{"--key: ", "/ann.pem.pub: want an Ed25519 private key", "qstream tap officer new makes one"}},
		{"order show --nonsense" + ann + none, exitUsage, []string{"unknown flag --nonsense", "See: qstream tap order show --help"}},
		{"order lost" + ann, exitUsage, []string{"lost", `did you mean "list"?`, "See: qstream tap order --help"}},
		{"audit --since x" + ann, exitUsage, []string{"--since: x: want a time such as ", "See: qstream tap audit --help"}},
		{"order request" + ann + "@no", exitUsage, []string{"/no: no such file"}},
		{"init --officer ann=@no --officer bob=@bob.pem.pub @new", exitUsage, []string{"officer ann: ", "/no: no such file", "qstream tap officer new"}},
		{"init --officer ann=@ann.pem.pub @new", exitUsage, []string{"--officer: want two at least"}},

		// Archives, and brokers that aren't there.
		{"archive list --data @no", exitFailed, []string{"nothing runs on ", "/no;", "qstream up --data ", "--kafka"}},
		{"archive show --data @no x", exitFailed, []string{"nothing runs on ", "/no;", "qstream up --data ", "--kafka"}},
		{"archive list --kafka 127.0.0.1:9", exitFailed, []string{"reach broker 127.0.0.1:9: ", "connection refused"}},
		{"archive verify @no", exitUsage, []string{"/no: no such file", "See: qstream tap archive verify --help"}},
		{"archive verify @vault", exitFailed, []string{"/vault: no manifest", "no folder of a file or etsi sink"}},
	} {
		code, said := tap(o.dir, c.args)
		if code != c.code {
			t.Errorf("tap %s: exit %d, want %d\n%s", c.args, code, c.code, said)
		}
		for _, want := range c.want {
			if strings.Count(said, want) != 1 {
				t.Errorf("tap %s doesn't say %q once:\n%s", c.args, want, said)
			}
		}
		if strings.Contains(said, "not found: not found") {
			t.Errorf("tap %s stammers:\n%s", c.args, said)
		}
	}
	o.stop()
	for _, verb := range []string{"order list" + ann, "order show" + ann + none, "gaps" + ann + none, "keys list" + ann, "officer list" + ann} {
		code, said := tap(o.dir, verb)
		if want := "no tapper with the vault in " + filepath.Join(o.dir, "vault") + " answers on this host; is one started (qstream tapper --vault"; code != exitFailed || !strings.Contains(said, want) {
			t.Errorf("tap %s without a tapper: exit %d\n%s", verb, code, said)
		}
	}
}
