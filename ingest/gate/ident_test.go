package gate

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"

	"qstream/directory"
	"qstream/transport/resolver"
)

// TestIdent: rules with info@ ask the client's host, others don't.
func TestIdent(t *testing.T) {
	host, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	says := make(chan string, 1)
	go func() {
		for {
			c, err := host.Accept()
			if err != nil {
				return
			}
			ports, _ := bufio.NewReader(c).ReadString('\n')
			_, _ = fmt.Fprintf(c, <-says, strings.TrimSpace(ports))
			c.Close()
		}
	}()
	dns, err := resolver.New(resolver.Config{Servers: []string{"127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, rules, says string // "": nobody is asked
		info              string
		line              int
	}{
		{"named", `joe@127.0.0.1:allow`, "%s : USERID : UNIX : joe\r\n", "joe", 1},
		{"another", `joe@127.0.0.1:allow`, "%s : USERID : UNIX : eve\r\n", "eve", 2},
		{"nobody", `joe@127.0.0.1:allow`, "%s : ERROR : NO-USER\r\n", "", 2},
		{"another connection", `joe@127.0.0.1:allow`, "1, 2%.0s : USERID : UNIX : joe\r\n", "", 2},
		{"no end of line", `joe@127.0.0.1:allow`, "%s : USERID : UNIX : joe", "", 2},
		{"control characters", `joe@127.0.0.1:allow`, "%s : USERID : UNIX : j\x00oe\r\n", "", 2},
		{"not asked", `127.0.0.1:allow`, "", "", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := snapshot(t, "rules: |\n  "+tt.rules+"\n  :allow\n")
			g, err := New(Config{Ident: host.Addr().(*net.TCPAddr).Port}, Deps{Snapshot: fixed(s), Resolver: dns})
			if err != nil {
				t.Fatal(err)
			}
			if tt.says != "" {
				says <- tt.says
			}
			server, _ := pair(t)
			c, refusal := g.Door("smtp").Enter(t.Context(), server)
			if refusal != nil || c.Info != tt.info || c.Rule.Line != tt.line {
				t.Errorf("%+v, %+v", c, refusal)
			}
			c.Leave()
		})
	}
}

func FuzzParseIdent(f *testing.F) {
	f.Add("6193, 23 : USERID : UNIX : joe\r\n")
	f.Add("6193,23:USERID:OTHER ,US-ASCII:a:b")
	f.Fuzz(func(t *testing.T, line string) {
		if user := parseIdent(line, 6193, 23); strings.ContainsAny(user, "\r\n\x00") || !strings.Contains(line, user) {
			t.Errorf("%q", user)
		}
	})
}

func fixed(s *directory.Snapshot) func() *directory.Snapshot {
	return func() *directory.Snapshot { return s }
}
