package greylist

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// server answers each connection by a text, once it has read a request.
func server(t *testing.T, reply string) (addr string, asked <-chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	got, done := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(5 * time.Second))
			buf, n := make([]byte, 4096), 0
			for !strings.Contains(string(buf[:n]), "\n\n") {
				m, err := c.Read(buf[n:])
				if err != nil {
					break
				}
				n += m
			}
			got <- string(buf[:n])
			_, _ = io.WriteString(c, reply)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String(), got
}

func TestPostgrey(t *testing.T) {
	q := Request{
		Triple: triple("192.0.2.1", "ann@acme.example", "bob@hub.example"), HELO: "out\nrequest=x", ESMTP: true, Instance: "1.2",
	}
	for _, tt := range []struct {
		name, reply string
		want        Answer
		fails       bool
	}{
		{"deferred", "action=DEFER_IF_PERMIT Greylisted, see http://postgrey.example\n\n", Answer{Text: "Greylisted, see http://postgrey.example"}, false},
		{"deferred, small letters", "x=y\naction=defer later\n\n", Answer{Text: "later"}, false},
		{"known", "action=DUNNO\n\n", Answer{Pass: true}, false},
		{"passed after a delay", "action=PREPEND X-Greylist: delayed 301 seconds\n\n", Answer{Pass: true}, false},
		{"another action", "action=FILTER x\n\n", Answer{Pass: true, Fault: true}, true},
		{"no action", "\n", Answer{Pass: true, Fault: true}, true},
		{"cut", "action=DUNNO\n", Answer{Pass: true, Fault: true}, true},
		{"endless", strings.Repeat("a=b\n", 2000), Answer{Pass: true, Fault: true}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr, asked := server(t, tt.reply)
			a, err := Postgrey(t.Context(), addr, q, false)
			if a != tt.want || (err != nil) != tt.fails {
				t.Errorf("%+v, %v", a, err)
			}
			want := "request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=ESMTP\nclient_address=192.0.2.1\nclient_name=unknown\n" +
				"helo_name=out request=x\nsender=ann@acme.example\nrecipient=bob@hub.example\ninstance=1.2\n\n"
			if got := <-asked; got != want {
				t.Errorf("asked\n%s", got)
			}
			if !a.Pass && a.Status().Code != 450 {
				t.Errorf("%v", a.Status())
			}
		})
	}
	if a, err := Postgrey(t.Context(), "127.0.0.1:1", q, true); err == nil || a.Pass || !a.Fault {
		t.Errorf("nobody there: %+v, %v", a, err)
	}
}

func FuzzReadAction(f *testing.F) {
	f.Add("action=DUNNO\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		if action, err := readAction(strings.NewReader(text)); err == nil && strings.Contains(action, "\n") {
			t.Errorf("%q", action)
		}
	})
}
