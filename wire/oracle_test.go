package wire

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"
	"pgregory.net/rapid"
)

// On content that no rule forbids, a DotWriter and a DataReader agree with
// go-smtp's reader.
func TestDataAsGoSMTPReadsIt(t *testing.T) {
	got := make(chan string, 1)
	s := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return keeper{got}, nil }))
	s.ErrorLog = log.New(io.Discard, "", 0)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	defer func() {
		s.Close()
		<-done
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	replies := bufio.NewReader(c)
	expect := func(code string) {
		for {
			line, err := replies.ReadString('\n')
			if err != nil || !strings.HasPrefix(line, code) {
				t.Fatalf("%q, %v; want %s", line, err, code)
			}
			if line[3] == ' ' {
				return
			}
		}
	}
	fmt.Fprint(c, "EHLO x\r\n")
	expect("220")
	expect("250")
	rapid.Check(t, func(t *rapid.T) {
		lines := rapid.SliceOf(rapid.StringMatching(`[.a\x80]{0,9}`)).Draw(t, "lines")
		var wire strings.Builder
		w := NewDotWriter(&wire)
		for _, l := range lines {
			if _, err := io.WriteString(w, l+"\r\n"); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(c, "MAIL FROM:<>\r\nRCPT TO:<a@b>\r\nDATA\r\n", wire.String())
		for _, code := range []string{"250", "250", "354", "250"} {
			expect(code)
		}
		ours, _, err := readData(wire.String(), false, Options{})
		if theirs := <-got; err != nil || ours != theirs {
			t.Fatalf("we read %q (%v), go-smtp %q", ours, err, theirs)
		}
	})
}

type keeper struct{ got chan string }

func (keeper) Reset()                               {}
func (keeper) Logout() error                        { return nil }
func (keeper) Mail(string, *smtp.MailOptions) error { return nil }
func (keeper) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (k keeper) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	k.got <- string(b)
	return err
}
