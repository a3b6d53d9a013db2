package peer

import (
	"os"
	"strings"
	"testing"
	"time"

	"qstream/directory"
	"qstream/test/fakemx"
	"qstream/test/peers"
	"qstream/test/rig"
)

func TestMain(m *testing.M) { rig.Main(m) }

// Each peer relays a mail for the site's domains to the sink, and says what
// it used.
func TestPeersRelay(t *testing.T) {
	peers.Need(t)
	sink, err := fakemx.Start(fakemx.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sink.Close)
	site := All(sink.Addr(), "acme.example", ".acme.example")
	for i, p := range []Peer{&Postfix{Site: site}, &QStream{Site: site}} {
		t.Run(p.Name(), func(t *testing.T) {
			if err := p.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := p.Stop(); err != nil {
					t.Error(err)
				}
			})
			for n, to := range []string{"ann@acme.example", "bob@deep.acme.example"} {
				if _, err := rig.Hand(p.Addr(), rig.Message{From: "load@client.example", To: to, Content: rig.Sized(5000)}, os.Stderr); err != nil {
					t.Fatalf("%v\n%s", err, p.Log())
				}
				for end := time.Now().Add(20 * time.Second); len(sink.Messages()) < 2*i+n+1; time.Sleep(10 * time.Millisecond) {
					if time.Now().After(end) {
						t.Fatalf("no mail arrived\n%s", p.Log())
					}
				}
			}
			u, err := p.Usage()
			for end := time.Now().Add(20 * time.Second); err == nil && u.Memory == 0 && time.Now().Before(end); u, err = p.Usage() {
				time.Sleep(100 * time.Millisecond) // memory is looked at now and then
			}
			if err != nil || u.CPU < time.Millisecond || u.Memory < 1<<20 || u.BrokerCPU != 0 {
				t.Errorf("used %+v, %v", u, err)
			}
		})
	}
}

func TestDocuments(t *testing.T) {
	s := Site{Tenants: []Tenant{
		{Name: "quiet", Domains: []Domain{{"quiet.example", "127.0.0.1:2500"}}},
		{Name: "noisy", Queue: "both", Domains: []Domain{{".noisy.example", "mx"}}},
	}}
	docs, err := directory.Parse(directory.File{Name: "site", Data: []byte(s.documents())})
	if err != nil {
		t.Fatal(err)
	}
	if len(docs) != 6 {
		t.Errorf("%d documents, want 6", len(docs))
	}
	if got, want := s.transports(), "quiet.example smtp:[127.0.0.1]:2500\n.noisy.example smtp:\n"; got != want {
		t.Errorf("transports %q, want %q", got, want)
	}
	if !strings.Contains(s.documents(), "queue: both") {
		t.Error("no shared queue")
	}
}
