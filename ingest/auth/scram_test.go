package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"net"
	"strings"
	"testing"

	"qstream/directory/password"
)

// prover is a client of SCRAM.
type prover struct {
	gs2, user, password, nonce string
	binding                    []byte
	change                     func(final string) string
}

// sign plays a whole exchange.
func (p prover) sign(t testing.TB, x *Exchange) error {
	t.Helper()
	if p.nonce == "" {
		p.nonce = "fyko+d2lbbFgONRv9qkxdawL"
	}
	bare := "n=" + p.user + ",r=" + p.nonce
	first, _, err := x.Next([]byte(p.gs2 + bare))
	if err != nil {
		return err
	}
	fields := strings.Split(string(first), ",")
	if len(fields) != 3 || !strings.HasPrefix(fields[0], "r="+p.nonce) || len(fields[0]) < len(p.nonce)+20 || fields[2] != "i=15000" {
		t.Fatalf("first message %q", first)
	}
	salt, err := base64.StdEncoding.DecodeString(fields[1][2:])
	if err != nil {
		t.Fatal(err)
	}
	clientKey, serverKey := keys(t, p.password, salt)
	without := "c=" + base64.StdEncoding.EncodeToString(append([]byte(p.gs2), p.binding...)) + "," + fields[0]
	text := bare + "," + string(first) + "," + without
	stored := sha256.Sum256(clientKey)
	proof := make([]byte, 32)
	subtle.XORBytes(proof, clientKey, password.MAC(stored[:], text))
	final := without + ",p=" + base64.StdEncoding.EncodeToString(proof)
	if p.change != nil {
		final = p.change(final)
	}
	last, done, err := x.Next([]byte(final))
	if err != nil {
		return err
	}
	if want := "v=" + base64.StdEncoding.EncodeToString(password.MAC(serverKey, text)); done || string(last) != want {
		t.Fatalf("server's proof %q, want %q", last, want)
	}
	_, done, err = x.Next([]byte{})
	if err == nil && !done {
		t.Fatal("no end")
	}
	return err
}

func TestScram(t *testing.T) {
	a := authenticator(t, Config{})
	const alice = "alice@acme.example"
	for name, tt := range map[string]struct {
		p   prover
		err error
	}{
		"good":            {prover{gs2: "n,,", user: alice, password: "secret"}, nil},
		"no binding seen": {prover{gs2: "y,,", user: alice, password: "secret"}, nil},
		"as itself":       {prover{gs2: "n,a=Alice@acme.example,", user: alice, password: "secret"}, nil},
		"as another":      {prover{gs2: "n,a=bob,", user: alice, password: "secret"}, ErrRejected},
		"wrong":           {prover{gs2: "n,,", user: alice, password: "secrets"}, ErrRejected},
		"nobody":          {prover{gs2: "n,,", user: "stranger", password: "secret"}, ErrRejected},
		"odd user":        {prover{gs2: "n,,", user: "=2C=3D", password: "secret"}, ErrRejected},
		"disabled":        {prover{gs2: "n,,", user: "gone", password: "secret"}, ErrRejected},
		"elsewhere":       {prover{gs2: "n,,", user: "away", password: "secret"}, ErrRejected},
		"no verifier":     {prover{gs2: "n,,", user: "bob", password: "secret"}, ErrRejected},
		"binding":         {prover{gs2: "p=tls-exporter,,", user: alice, password: "secret"}, ErrMalformed},
		"bad flag":        {prover{gs2: "q,,", user: alice, password: "secret"}, ErrMalformed},
		"bad identity":    {prover{gs2: "n,b=x,", user: alice, password: "secret"}, ErrMalformed},
		"bad escape":      {prover{gs2: "n,,", user: "a=2Db", password: "secret"}, ErrMalformed},
		"no user":         {prover{gs2: "n,,", user: "", password: "secret"}, ErrMalformed},
		"mandatory":       {prover{gs2: "n,,m=x,", user: alice, password: "secret"}, ErrMalformed},
		"long nonce":      {prover{gs2: "n,,", user: alice, nonce: strings.Repeat("x", 201)}, ErrMalformed},
		"blank in nonce":  {prover{gs2: "n,,", user: alice, nonce: "a b"}, ErrMalformed},
		"other nonce":     {prover{gs2: "n,,", user: alice, password: "secret", change: func(s string) string { return strings.Replace(s, "r=f", "r=g", 1) }}, ErrMalformed},
		"no proof":        {prover{gs2: "n,,", user: alice, password: "secret", change: func(s string) string { return strings.Replace(s, ",p=", ",q=", 1) }}, ErrMalformed},
		"short proof":     {prover{gs2: "n,,", user: alice, password: "secret", change: func(s string) string { return s[:strings.Index(s, ",p=")] + ",p=AAAA" }}, ErrMalformed},
		"changed header":  {prover{gs2: "n,,", user: alice, password: "secret", change: func(s string) string { return strings.Replace(s, "c=biws", "c=eSws", 1) }}, ErrRejected},
		"added extension": {prover{gs2: "n,,", user: alice, password: "secret", change: func(s string) string { return strings.Replace(s, ",p=", ",x=1,p=", 1) }}, ErrRejected},
		"longest nonce":   {prover{gs2: "n,,", user: alice, password: "secret", nonce: strings.Repeat("x", 200)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			x := a.Begin(t.Context(), someone, Scram)
			if challenge, _, err := x.Next(nil); err != nil || challenge == nil || len(challenge) > 0 {
				t.Fatal("no empty challenge")
			}
			err := tt.p.sign(t, x)
			if !errors.Is(err, tt.err) || tt.err == nil && (err != nil || x.Identity().User != alice) {
				t.Errorf("%+v, %v", x.Identity(), err)
			}
		})
	}
	x := a.Begin(t.Context(), someone, Scram)
	again := a.Begin(t.Context(), someone, Scram)
	one, _, _ := x.Next([]byte("n,,n=stranger,r=abc"))
	two, _, _ := again.Next([]byte("n,,n=Stranger,r=abc"))
	if s1, s2 := strings.Split(string(one), ",s=")[1], strings.Split(string(two), ",s=")[1]; s1 != s2 {
		t.Errorf("a stranger's salt changes: %s, %s", s1, s2)
	}
}

// Over TLS a client binds the exchange to its channel.
func TestScramPlus(t *testing.T) {
	a := authenticator(t, Config{})
	client, server := tlsPair(t, tls.VersionTLS13)
	c := someone
	c.TLS = &server
	binding := bindingOf(Client{TLS: &client})
	if got := strings.Join(a.Mechanisms(c), " "); got != "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN" {
		t.Error(got)
	}
	p := prover{gs2: "p=tls-exporter,,", user: "alice@acme.example", password: "secret", binding: binding}
	if err := p.sign(t, a.Begin(t.Context(), c, ScramPlus)); err != nil {
		t.Error(err)
	}
	p.binding = append([]byte{^binding[0]}, binding[1:]...)
	if err := p.sign(t, a.Begin(t.Context(), c, ScramPlus)); !errors.Is(err, ErrRejected) {
		t.Error("another channel:", err)
	}
	for gs2, want := range map[string]error{"y,,": ErrMalformed, "n,,": ErrMalformed, "p=tls-unique,,": ErrMalformed} {
		if err := (prover{gs2: gs2, user: "a"}).sign(t, a.Begin(t.Context(), c, ScramPlus)); !errors.Is(err, want) {
			t.Errorf("%s: %v", gs2, err)
		}
	}
	if err := (prover{gs2: "y,,", user: "alice@acme.example", password: "secret"}).sign(t, a.Begin(t.Context(), c, Scram)); !errors.Is(err, ErrRejected) {
		t.Error("the offer was hidden:", err)
	}
	if err := (prover{gs2: "n,,", user: "alice@acme.example", password: "secret"}).sign(t, a.Begin(t.Context(), c, Scram)); err != nil {
		t.Error(err)
	}
}

// tlsPair shakes hands in memory and returns both sides' states.
func tlsPair(t *testing.T, version uint16) (client, server tls.ConnectionState) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	cert := newCertificate(t, nil)
	s := tls.Server(a, &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: version})
	c := tls.Client(b, &tls.Config{InsecureSkipVerify: true, MaxVersion: version}) // our own certificate
	done := make(chan error, 1)
	go func() { done <- s.Handshake() }()
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = c.Read(make([]byte, 1)) }()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return c.ConnectionState(), s.ConnectionState()
}

// No response breaks an exchange: it ends in an error of a known kind, or
// goes on.
func FuzzExchange(f *testing.F) {
	f.Add(uint8(0), []byte("\x00alice@acme.example\x00x"), []byte(""))
	f.Add(uint8(1), []byte("alice@acme.example"), []byte("x"))
	f.Add(uint8(2), []byte("n,,n=alice@acme.example,r=abc"), []byte("c=biws,r=abc,p=AAAA"))
	f.Add(uint8(2), []byte("y,a==2C,n==3D,r=a,x=y"), []byte(",p="))
	f.Add(uint8(3), []byte("alice@acme.example"), []byte("\xff"))
	f.Add(uint8(4), []byte("p=tls-exporter,,n=a,r=b"), []byte("c=,r=,p="))
	f.Fuzz(func(t *testing.T, which uint8, first, second []byte) {
		a := authenticator(t, Config{})
		x := &Exchange{a: a, ctx: t.Context(), client: someone, mechanism: Scram, server: &scram{}}
		x.server.(*scram).x = x
		switch which % 5 {
		case 4:
			x.server.(*scram).binding = []byte("binding")
		case 3:
			x.server = externalServer(x)
		default:
			x = a.Begin(t.Context(), someone, []string{Plain, Login, Scram}[which%5])
		}
		for _, response := range [][]byte{nil, first, second, {}} {
			challenge, done, err := x.Next(response)
			if done && err == nil && !strings.Contains(string(first)+string(second), "secret") {
				t.Fatalf("%q and %q signed in", first, second)
			}
			if err != nil && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrRejected) && !errors.Is(err, ErrBusy) {
				t.Fatalf("%v", err)
			}
			if done || err != nil {
				return
			}
			if n := base64.StdEncoding.EncodedLen(len(challenge)); n > 490 {
				t.Fatalf("challenge of %d octets", n)
			}
		}
	})
}
