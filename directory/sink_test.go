package directory

import (
	"strings"
	"testing"
)

func TestParseSink(t *testing.T) {
	for in, want := range map[string]string{
		"maildir:/var/mail/archive":                                         "",
		"maildir:/var/mail/archive/ form=report":                            "maildir:/var/mail/archive form=report",
		"mbox:/var/mail/archive.mbox":                                       "",
		"file:/srv/archive":                                                 "",
		"etsi:/srv/events":                                                  "",
		"smtp://journal.example to=journal@journal.example":                 "smtp://journal.example:25 to=journal@journal.example",
		"smtp://[2001:db8::1]:2525 from=a@b.example to=c@d.example tls=off": "smtp://[2001:db8::1]:2525 to=c@d.example from=a@b.example tls=off",
		"s3://bucket/a/b endpoint=https://s3.example key_file=/etc/s3":      "",
		"s3://bucket key_file=/etc/s3 endpoint=http://127.0.0.1:9000":       "s3://bucket endpoint=http://127.0.0.1:9000 key_file=/etc/s3",
		"https://hook.example/copies?of=acme secret_file=/etc/secret":       "",
		"kafka://b1.example:9092,b2.example:9092/copies":                    "",
		"kafka://b1.example:9092/copies sasl=PLAIN user=u password_file=/p": "",
	} {
		s, err := ParseSink(in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if want == "" {
			want = in
		}
		if s.String() != want {
			t.Errorf("%s is written %s, want %s", in, s, want)
		}
		if again, err := ParseSink(s.String()); err != nil || again.String() != s.String() {
			t.Errorf("%s is read again as %v, %v", s, again, err)
		}
	}
}

func TestParseSinkRefuses(t *testing.T) {
	for _, in := range []string{
		"", "  ", "nowhere", "maildir:relative", "maildir:/", "maildir:/a form=other", "maildir:/a\x00", "file:/a form=raw",
		"mbox:", "smtp://host", "smtp://mx to=a@b.example", "smtp://user:secret@host to=a@b.example", "smtp://host to=nobody",
		"smtp://host to=a@b.example tls=maybe", "smtp://host to=a@b.example to=a@b.example",
		"s3://bucket", "s3://bucket/../x endpoint=https://s3.example key_file=/k", "s3:///x endpoint=https://s3.example key_file=/k",
		"s3://b endpoint=http://s3.example key_file=/k", "s3://b endpoint=https://s3.example key_file=k",
		"https://hook.example", "http://hook.example secret_file=/s", "https://u:secret@hook.example secret_file=/s", "https:// secret_file=/s",
		"kafka://b1/t", "kafka://b1:9092", "kafka://b1:99999/t", "kafka://b1:9092/t sasl=PLAIN", "kafka://b1:9092/t user=u", "kafka://b1:9092/t cert_file=/c",
		"ftp://x",
	} {
		s, err := ParseSink(in)
		if err == nil {
			t.Errorf("%q was read as %s", in, s)
		} else if strings.Contains(err.Error(), "secret@") {
			t.Errorf("%q: the error shows a secret: %s", in, err)
		}
	}
}

func FuzzParseSink(f *testing.F) {
	f.Add("smtp://journal.example to=journal@journal.example")
	f.Add("kafka://b1.example:9092,b2.example:9092/copies tls=off")
	f.Add("s3://bucket/a endpoint=https://s3.example key_file=/etc/s3")
	f.Fuzz(func(t *testing.T, in string) {
		s, err := ParseSink(in)
		if err != nil {
			return
		}
		again, err := ParseSink(s.String())
		if err != nil || again.String() != s.String() {
			t.Errorf("%q is written %q, and read again as %v, %v", in, s, again, err)
		}
	})
}
