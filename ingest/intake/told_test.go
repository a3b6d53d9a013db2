package intake

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"qstream/bus/bustest"
)

// Mail that is never taken leaves a line that says who was refused what, why
// and how; a client that goes on and on leaves no more than mostTold.
func TestRefusalsAreTold(t *testing.T) {
	var out bytes.Buffer
	in := newIntake(t, bustest.New(t))
	in.deps.Log = slog.New(slog.NewTextHandler(&out, nil))
	s := session(t, in, Client{HELO: "c\x1b[31m.example"})
	refused := func(err error) {
		t.Helper()
		if code(err) < 400 {
			t.Errorf("not refused: %v", err)
		}
	}
	refused(s.Mail("a b@sender.example", nil))
	if err := s.Mail("early@sender.example", nil); err != nil {
		t.Fatal(err)
	}
	for i := range mostTold + 5 {
		refused(s.Rcpt(fmt.Sprintf("u%d@other.example", i), nil))
	}
	text := out.String()
	for _, want := range []string{
		`from="a b@sender.example" rcpt="" reason=reverse-path code=501`,
		`from=early@sender.example rcpt=u0@other.example reason=relay code=553`,
		`more="not logged for this session"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is missing in\n%s", want, text)
		}
	}
	if n := strings.Count(text, "mail refused"); n != mostTold {
		t.Errorf("%d lines of one session, want %d", n, mostTold)
	}
	if strings.Contains(text, "\x1b") {
		t.Errorf("hostile text:\n%s", text)
	}
}
