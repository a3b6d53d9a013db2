package intake

import (
	"errors"
	"testing"

	"github.com/emersion/go-smtp"

	"qstream/bus/bustest"
)

// A session of a service for users, or of a user, is nobody's without one.
func TestSubmitters(t *testing.T) {
	in := newIntake(t, bustest.New(t))
	for name, tt := range map[string]struct {
		client Client
		from   string
		code   int
		enh    smtp.EnhancedCode
	}{
		"nobody":              {Client{Submission: true}, "a@acme.example", 530, smtp.EnhancedCode{5, 7, 0}},
		"gone":                {Client{User: "carol@acme.example"}, "carol@acme.example", 530, smtp.EnhancedCode{5, 7, 0}},
		"known to a program":  {Client{User: "carol@acme.example", Vouched: true, Submission: true}, "Carol@ACME.example", 0, smtp.EnhancedCode{}},
		"another's address":   {Client{User: "carol@acme.example", Vouched: true}, "dave@acme.example", 553, smtp.EnhancedCode{5, 7, 1}},
		"null path":           {Client{User: "carol@acme.example", Vouched: true}, "", 0, smtp.EnhancedCode{}},
		"a stranger, no user": {Client{}, "dave@acme.example", 0, smtp.EnhancedCode{}},
	} {
		s := session(t, in, tt.client)
		err := s.Mail(tt.from, nil)
		var e *smtp.SMTPError
		if errors.As(err, &e); code(err) != tt.code || e != nil && e.EnhancedCode != tt.enh {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil && (s.record.Relay != (tt.client.User != "") || s.record.Relay && s.record.Tenant != "acme") {
			t.Errorf("%s: %v", name, s.record)
		}
	}
}
