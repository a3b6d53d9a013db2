package gate

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"qstream/directory"
	"qstream/test/fakedns"
	"qstream/transport/resolver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// snapshot is a directory with the rules of SMTP.
func snapshot(t testing.TB, text string) *directory.Snapshot {
	t.Helper()
	docs, err := directory.Parse(directory.File{Name: "r.yaml", Data: []byte("kind: rules\nname: smtp\n" + text)})
	if err != nil {
		t.Fatal(err)
	}
	s, err := directory.Build(docs)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newGate(t testing.TB, text, zone string) *Gate {
	t.Helper()
	dns, err := fakedns.Start(zone)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(dns.Close)
	r, err := resolver.New(resolver.Config{Servers: []string{dns.Addr()}, Timeout: 300 * time.Millisecond, Tries: 1})
	if err != nil {
		t.Fatal(err)
	}
	s := snapshot(t, text)
	g, err := New(Config{Wait: time.Second}, Deps{Snapshot: func() *directory.Snapshot { return s }, Resolver: r})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// pair is a connection's two ends on real sockets.
func pair(t testing.TB) (server, client net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close(); client.Close() })
	return server, client
}

// enter is a connection whose balancer says that it comes from ip.
func enter(t testing.TB, g *Gate, ip string) (*Client, *Refusal) {
	t.Helper()
	server, client := pair(t)
	a := netip.MustParseAddr(ip)
	family, own := "TCP4", "192.0.2.25"
	if a.Is6() {
		family, own = "TCP6", "2001:db8::25"
	}
	if _, err := io.WriteString(client, "PROXY "+family+" "+ip+" "+own+" 4000 25\r\n"); err != nil {
		t.Fatal(err)
	}
	return g.Door("smtp").Enter(t.Context(), server)
}

const behind = "proxy: 127.0.0.1\n"

const zone = `
9.2.0.192.in-addr.arpa. 60 IN PTR Mail.acme.example.
mail.acme.example. 60 IN A 192.0.2.9
8.2.0.192.in-addr.arpa. 60 IN PTR forged.acme.example.
forged.acme.example. 60 IN A 198.51.100.1
7.2.0.192.in-addr.arpa. 60 IN PTR silence.acme.example.
66.2.0.192.bl.example. 60 IN A 127.0.0.2
66.2.0.192.bl.example. 60 IN TXT "66 is bad"
67.2.0.192.bl.example. 60 IN A 127.0.0.2
67.2.0.192.wl.example. 60 IN A 127.0.0.2
68.2.0.192.bl.example. 60 IN A 127.255.255.254
69.2.0.192.two.example. 60 IN A 127.0.0.4
69.2.0.192.bl.example. 60 IN A 127.0.0.2
1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.bl.example. 60 IN A 127.0.0.2
`

func TestRulesAndNames(t *testing.T) {
	g := newGate(t, behind+`env: [SPF=3]
rules: |
  192.0.2.1:deny
  192.0.2.2:allow,RELAYCLIENT="",!SPF
  =.acme.example:allow,N="named"
  :allow,N="rest"
`, zone)
	for _, c := range []struct {
		ip, name, n string
		line        int
	}{
		{"192.0.2.2", "", "", 2},
		{"192.0.2.9", "mail.acme.example", "named", 3},
		{"192.0.2.8", "", "rest", 4},   // its name leads elsewhere
		{"192.0.2.7", "", "rest", 4},   // its name leads nowhere in time
		{"192.0.2.100", "", "rest", 4}, // it has none
	} {
		client, refusal := enter(t, g, c.ip)
		if refusal != nil {
			t.Errorf("%s: %+v", c.ip, refusal)
			continue
		}
		if n, _ := client.Var("N"); client.Name != c.name || n != c.n || client.Rule.Line != c.line || client.Addr.String() != c.ip+":4000" || client.Local.Port() != 25 {
			t.Errorf("%s: %+v", c.ip, client)
		}
		if _, spf := client.Var("SPF"); spf != (c.line != 2) {
			t.Errorf("%s: SPF %v", c.ip, spf)
		}
		client.Leave()
	}
	if _, refusal := enter(t, g, "192.0.2.1"); refusal == nil || !refusal.Quiet || refusal.Reason != "denied" {
		t.Errorf("denied: %+v", refusal)
	}
}

func TestLists(t *testing.T) {
	g := newGate(t, behind+`dnsbl: {block: [bl.example, {zone: two.example, answers: 127.0.0.4, weight: 2, text: "two"}], allow: wl.example, reply: 553}
rules: |
  192.0.2.30:allow,RBLSMTPD="go away"
  192.0.2.31:allow,RBLSMTPD="-go away"
  192.0.2.66:allow,N="1"
`, zone)
	for _, c := range []struct{ ip, want string }{
		{"192.0.2.30", "451 4.7.1 go away"},
		{"192.0.2.31", "553 5.7.1 go away"},
		{"192.0.2.66", "553 5.7.1 66 is bad"},
		{"192.0.2.67", ""}, // on the allow list
		{"192.0.2.68", ""}, // an error of the list's
		{"192.0.2.69", "553 5.7.1 192.0.2.69 is listed by bl.example"},
		{"2001:db8::1", "553 5.7.1 2001:db8::1 is listed by bl.example"},
		{"192.0.2.5", ""},
	} {
		client, refusal := enter(t, g, c.ip)
		if refusal != nil {
			t.Fatalf("%s: %+v", c.ip, refusal)
		}
		got := ""
		if client.Refusal != nil {
			got = client.Refusal.String()
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.ip, got, c.want)
		}
		client.Leave()
	}
	off := newGate(t, behind+"dnsbl: {block: bl.example}\nrules: '192.0.2.66:allow,RBLSMTPD=\"\"'\n", zone)
	if client, _ := enter(t, off, "192.0.2.66"); client == nil || client.Refusal != nil {
		t.Errorf("RBLSMTPD empty: %+v", client)
	}
	heavy := newGate(t, behind+"dnsbl: {threshold: 3, block: [bl.example, {zone: two.example, weight: 2}], reply: 553}\n", zone)
	if client, _ := enter(t, heavy, "192.0.2.66"); client == nil || client.Refusal != nil {
		t.Errorf("below the threshold: %+v", client)
	}
	if client, _ := enter(t, heavy, "192.0.2.69"); client == nil || client.Refusal == nil {
		t.Errorf("at the threshold: %+v", client)
	}
}

// TestSilentDNS: lists that never answer cost their time and refuse nobody;
// what another list says is temporary then, and who needs no DNS waits for
// none.
func TestSilentDNS(t *testing.T) {
	g := newGate(t, behind+`dnsbl: {wait: 2s, reply: 553, block: [bl.example, silence.example]}
rules: |
  192.0.2.1:allow,RBLSMTPD=""
`, strings.ReplaceAll(zone, "9.2.0.192", "99.2.0.192"))
	g.deps.Resolver, _ = resolver.New(resolver.Config{Servers: []string{deaf(t)}})
	started := time.Now()
	client, refusal := enter(t, g, "192.0.2.66")
	if took := time.Since(started); refusal != nil || client.Refusal != nil || took < 1900*time.Millisecond || took > 30*time.Second {
		t.Errorf("%+v, %+v, after %s", client, refusal, took)
	}
	started = time.Now()
	if client, _ := enter(t, g, "192.0.2.1"); client == nil || time.Since(started) > 1500*time.Millisecond {
		t.Errorf("%+v after %s", client, time.Since(started))
	}
}

// deaf is a name server that answers nothing.
func deaf(t testing.TB) string {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	return pc.LocalAddr().String()
}

func TestGreet(t *testing.T) {
	g := newGate(t, "greet: {delay: 1s, early: 421}\nrules: '127.0.0.2:allow,GREETDELAY=\"0\"'\n", "")
	server, client := pair(t)
	started := time.Now()
	c, refusal := g.Door("smtp").Enter(t.Context(), server)
	if refusal != nil || time.Since(started) < 900*time.Millisecond {
		t.Fatalf("%+v after %s", refusal, time.Since(started))
	}
	c.Leave()
	_, _ = io.WriteString(client, "EHLO x\r\n")
	if n, err := server.Read(make([]byte, 100)); n != 8 || err != nil {
		t.Errorf("after the wait: %d, %v", n, err)
	}
	server, client = pair(t)
	_, _ = io.WriteString(client, "EHLO x\r\n")
	if _, refusal := g.Door("smtp").Enter(t.Context(), server); refusal == nil || refusal.Reason != "early" || refusal.Status.Code != 421 {
		t.Errorf("early: %+v", refusal)
	}
	server, client = pair(t)
	client.Close()
	if _, refusal := g.Door("smtp").Enter(t.Context(), server); refusal == nil || refusal.Reason != "gone" {
		t.Errorf("gone: %+v", refusal)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	server, _ = pair(t)
	if _, refusal := g.Door("smtp").Enter(ctx, server); refusal == nil || refusal.Reason != "gone" {
		t.Errorf("stopped: %+v", refusal)
	}
}

func TestLimits(t *testing.T) {
	g := newGate(t, behind+"limits: {connections: 6, per_address: 2, per_network: 3, network_rate: 5/1h}\n", "")
	var open []*Client
	for i, c := range []struct{ ip, reason string }{
		{"192.0.2.1", ""}, {"192.0.2.1", ""}, {"192.0.2.1", "limit_address"}, {"192.0.2.2", ""}, {"192.0.2.3", "limit_network"},
		{"2001:db8::1", ""}, {"2001:db8::2", ""}, {"2001:db8::3", ""}, {"2001:db8:1::1", "limit_total"},
	} {
		client, refusal := enter(t, g, c.ip)
		switch {
		case (refusal == nil) != (c.reason == ""), refusal != nil && refusal.Reason != c.reason:
			t.Fatalf("%d, %s: %+v, want %q", i, c.ip, refusal, c.reason)
		case client != nil:
			open = append(open, client)
		}
	}
	for _, c := range open {
		c.Leave()
	}
	for _, want := range []string{"", "", "rate_network"} {
		client, refusal := enter(t, g, "192.0.2.9")
		if client != nil {
			client.Leave()
		}
		if refusal != nil && refusal.Reason != want || refusal == nil && want != "" {
			t.Errorf("%+v, want %q", refusal, want)
		}
	}
}

// TestTable: whatever comes and goes, nothing is counted that isn't open, and
// the table keeps its bound.
func TestTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits := directory.ConnLimits{
			Connections: rapid.IntRange(0, 8).Draw(t, "connections"), PerAddress: rapid.IntRange(0, 3).Draw(t, "address"),
			PerNetwork: rapid.IntRange(0, 4).Draw(t, "network"), IPv4Bits: 24, IPv6Bits: 64,
		}
		if rapid.Bool().Draw(t, "rated") {
			limits.AddressRate = directory.ConnRate{Count: 2, Per: time.Second}
		}
		table := newTable(8)
		var open [][]*entry
		now := time.Unix(1e9, 0)
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 500).Draw(t, "ms")) * time.Millisecond)
			if len(open) > 0 && rapid.Bool().Draw(t, "leave") {
				i := rapid.IntRange(0, len(open)-1).Draw(t, "which")
				table.leave(open[i])
				open = slices.Delete(open, i, i+1)
				continue
			}
			ip := netip.AddrFrom4([4]byte{192, 0, byte(rapid.IntRange(0, 3).Draw(t, "net")), byte(rapid.IntRange(0, 9).Draw(t, "host"))})
			if held, over := table.enter("smtp", ip, limits, now); over == "" {
				open = append(open, held)
			}
			if len(open) > limits.Connections && limits.Connections > 0 {
				t.Fatalf("%d open", len(open))
			}
			if len(table.m) > 8+3*len(open)+3 {
				t.Fatalf("%d entries for %d open connections", len(table.m), len(open))
			}
		}
		for _, held := range open {
			table.leave(held)
		}
		for s, e := range table.m {
			if e.open != 0 || e.rate.Count == 0 {
				t.Fatalf("%v: %d open of nothing", s, e.open)
			}
		}
	})
}

// TestFlood: fifty thousand addresses are forgotten again.
func TestFlood(t *testing.T) {
	table := newTable(1000)
	limits := directory.ConnLimits{PerAddress: 10, AddressRate: directory.ConnRate{Count: 5, Per: time.Hour}, NetworkRate: directory.ConnRate{Count: 500, Per: time.Hour}, IPv4Bits: 24, IPv6Bits: 64}
	now := time.Unix(1e9, 0)
	for i := range 50_000 {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], uint32(i*7919))
		held, _ := table.enter("smtp", netip.AddrFrom4(a), limits, now)
		table.leave(held)
		if n := table.len(); n > 1000 {
			t.Fatalf("%d entries", n)
		}
	}
}

func TestProxy(t *testing.T) {
	v2 := func(command, family byte, body string) string {
		return signature + string([]byte{command, family}) + string(binary.BigEndian.AppendUint16(nil, uint16(len(body)))) + body
	}
	four := "\xc0\x00\x02\x01\xc0\x00\x02\x19\x0f\xa0\x00\x19"
	for _, c := range []struct {
		name, text, from string
		rest             string
		bad              bool
	}{
		{"v1", "PROXY TCP4 192.0.2.1 192.0.2.25 4000 25\r\nEHLO", "192.0.2.1:4000", "EHLO", false},
		{"v1, IPv6", "PROXY TCP6 2001:db8::1 2001:db8::25 4000 25\r\n", "[2001:db8::1]:4000", "", false},
		{"v1, unknown", "PROXY UNKNOWN\r\n", "", "", false},
		{"v1, unknown with more", "PROXY UNKNOWN ffff:: ffff:: 1 2\r\n", "", "", false},
		{"v1, families mixed", "PROXY TCP4 2001:db8::1 192.0.2.25 4000 25\r\n", "", "", true},
		{"v1, LF", "PROXY TCP4 192.0.2.1 192.0.2.25 4000 25\n", "", "", true},
		{"v1, no end", "PROXY TCP4 " + strings.Repeat("1", 200), "", "", true},
		{"v1, port", "PROXY TCP4 192.0.2.1 192.0.2.25 70000 25\r\n", "", "", true},
		{"none", "EHLO client.example\r\nMAIL", "", "", true},
		{"short", "PROXY", "", "", true},
		{"v2", v2(0x21, 0x11, four) + "EHLO", "192.0.2.1:4000", "EHLO", false},
		{"v2 with more", v2(0x21, 0x11, four+"\x03\x00\x04abcd") + "EHLO", "192.0.2.1:4000", "EHLO", false},
		{"v2, IPv6", v2(0x21, 0x21, strings.Repeat("\x20", 32)+"\x0f\xa0\x00\x19"), "[2020:2020:2020:2020:2020:2020:2020:2020]:4000", "", false},
		{"v2, local", v2(0x20, 0x00, ""), "", "", false},
		{"v2, Unix", v2(0x21, 0x31, strings.Repeat("x", 216)), "", "", false},
		{"v2, too short", v2(0x21, 0x11, four[:8]), "", "", true},
		{"v2, version", v2(0x31, 0x11, four), "", "", true},
		{"v2, command", v2(0x22, 0x11, four), "", "", true},
		{"v2, too long", v2(0x21, 0x11, strings.Repeat("x", 3000)), "", "", true},
		{"v2, cut", v2(0x21, 0x11, four)[:20], "", "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := strings.NewReader(c.text)
			from, _, err := readProxy(r)
			if (err != nil) != c.bad {
				t.Fatal(err)
			}
			if got := from.String(); from.IsValid() != (c.from != "") || c.from != "" && got != c.from {
				t.Errorf("from %s", got)
			}
			if rest, _ := io.ReadAll(r); !c.bad && string(rest) != c.rest {
				t.Errorf("left %q", rest)
			}
		})
	}
	g := newGate(t, behind, "")
	g.cfg.Wait = 100 * time.Millisecond
	server, _ := pair(t)
	if _, refusal := g.Door("smtp").Enter(t.Context(), server); refusal == nil || refusal.Reason != "proxy" || !refusal.Quiet {
		t.Errorf("a balancer that says nothing: %+v", refusal)
	}
}

func FuzzProxy(f *testing.F) {
	f.Add("PROXY TCP4 192.0.2.1 192.0.2.25 4000 25\r\n")
	f.Add(signature + "\x21\x11\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x19\x0f\xa0\x00\x19")
	f.Fuzz(func(t *testing.T, s string) {
		from, to, err := readProxy(strings.NewReader(s))
		if from.IsValid() != to.IsValid() || err != nil && from.IsValid() {
			t.Fatal(from, to, err)
		}
	})
}

func TestAs(t *testing.T) {
	g := newGate(t, "xclient: 127.0.0.1\nrules: |\n  192.0.2.1:deny\n  =mail.acme.example:allow,N=\"named\"\n", zone)
	server, _ := pair(t)
	c, refusal := g.Door("smtp").Enter(t.Context(), server)
	if refusal != nil || !c.XClient {
		t.Fatalf("%+v, %+v", c, refusal)
	}
	defer c.Leave()
	if _, refusal := c.As(t.Context(), netip.MustParseAddrPort("192.0.2.1:9"), ""); refusal == nil || refusal.Reason != "denied" {
		t.Errorf("%+v", refusal)
	}
	for name, want := range map[string]string{"": "mail.acme.example", "Mail.acme.example": "mail.acme.example", "other.example": "other.example"} {
		as, _ := c.As(t.Context(), netip.MustParseAddrPort("192.0.2.9:9"), name)
		if n, named := as.Var("N"); as.Name != want || named != (want == "mail.acme.example") {
			t.Errorf("%q: %+v, %q", name, as, n)
		}
	}
}

func TestNilDoor(t *testing.T) {
	server, _ := pair(t)
	var d *Door
	c, refusal := d.Enter(t.Context(), server)
	if refusal != nil || !c.Addr.IsValid() {
		t.Errorf("%+v", c)
	}
	if as, refusal := c.As(t.Context(), c.Addr, "x.example"); refusal != nil || as.Name != "x.example" {
		t.Errorf("%+v", as)
	}
	c.Leave()
}
