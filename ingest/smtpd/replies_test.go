package smtpd

import (
	"strings"
	"testing"

	"qstream/wire"
)

// hello and open are how a dialogue begins, and how a transaction does.
var (
	hello = []string{"< 220 mx.example ESMTP", "> EHLO client.example", "< 250"}
	open  = append(hello[:3:3], "> MAIL FROM:<a@x>", "< 250 2.1.0", "> RCPT TO:<b@x>", "< 250 2.1.5")
)

// dialogue is a row of the tables of replies.
type dialogue struct {
	name   string
	before []string
	script []string
}

func playAll(t *testing.T, rows []dialogue) {
	t.Helper()
	for _, tt := range rows {
		t.Run(tt.name, func(t *testing.T) {
			addr, _, _ := serve(t, Config{MaxSize: 50_000})
			connect(t, addr).play(append(tt.before[:len(tt.before):len(tt.before)], tt.script...)...)
		})
	}
}

// The tables hold every reply that the dialogue can give, by what leads to it.
func TestSessionReplies(t *testing.T) {
	playAll(t, []dialogue{
		{"helo", nil, []string{"< 220", "> HELO x", "< 250 mx.example"}},
		{"greeting lower case", nil, []string{"< 220", "> ehlo x", "< 250", "> mail from:<a@x>", "< 250 2.1.0", "> rcpt to:<b@x>", "< 250", "> quit", "< 221"}},
		{"helo without name", nil, []string{"< 220", "> HELO", "< 501 5.5.4"}},
		{"ehlo name too long", nil, []string{"< 220", "> EHLO " + strings.Repeat("x", 256), "< 501 5.5.4"}},
		{"backend broken", nil, []string{"< 220", "> EHLO break", "< 451 4.3.0", "> MAIL FROM:<>", "< 503 5.5.1"}},
		{"mail before helo", nil, []string{"< 220", "> MAIL FROM:<a@x>", "< 503 5.5.1"}},
		{"rcpt before helo", nil, []string{"< 220", "> RCPT TO:<a@x>", "< 503 5.5.1"}},
		{"data before helo", nil, []string{"< 220", "> DATA", "< 503 5.5.1"}},
		{"rset before helo", nil, []string{"< 220", "> RSET", "< 250 2.0.0"}},
		{"quit", hello, []string{"> QUIT", "< 221 2.0.0", "< EOF"}},
		{"noop", hello, []string{"> NOOP", "< 250 2.0.0", "> NOOP anything", "< 250 2.0.0"}},
		{"vrfy", hello, []string{"> VRFY someone", "< 252 2.5.0", "> VRFY", "< 501 5.5.4"}},
		{"help", hello, []string{"> HELP", "< 214 2.0.0", "> HELP DATA", "< 214 2.0.0"}},
		{"not implemented", hello, []string{"> EXPN list", "< 502 5.5.1", "> ETRN x", "< 502 5.5.1", "> AUTH PLAIN", "< 502 5.5.1"}},
		{"unknown", hello, []string{"> XYZZY", "< 500 5.5.2", "> ", "< 500 5.5.2"}},
		{"browser", hello, []string{"> GET / HTTP/1.1", "< 500 5.5.2", "< EOF"}},
		{"browser first", nil, []string{"< 220", "> POST / HTTP/1.1", "< 500 5.5.2", "< EOF"}},
		{"no tls here", hello, []string{"> STARTTLS", "< 502 5.5.1", "> STARTTLS x", "< 501 5.5.4"}},
		{"line too long", hello, []string{"> NOOP " + strings.Repeat("x", 5000), "< 500 5.5.2", "> NOOP", "< 250"}},
		{"NUL in command", hello, []string{"> NOOP \x00", "< 500 5.5.2 NUL", "> NOOP", "< 250"}},
		{"bare LF in command", hello, []string{">> NOOP\n", "< 500 5.5.2 bare LF", "> NOOP", "< 250"}},
		{"bare CR in command", hello, []string{">> NOOP\rNOOP\r\n", "< 500 5.5.2 bare CR", "> NOOP", "< 250"}},
	})
}

func TestMailReplies(t *testing.T) {
	playAll(t, []dialogue{
		{"mail syntax", hello, []string{"> MAIL", "< 501 5.5.4", "> MAIL <a@x>", "< 501 5.5.4", "> MAIL TO:<a@x>", "< 501 5.5.4"}},
		{"mail path", hello, []string{"> MAIL FROM:<a>", "< 501 5.1.7", "> MAIL FROM:<a@>", "< 501 5.1.7", "> MAIL FROM:<a@b", "< 501 5.1.7"}},
		{"mail not UTF-8", hello, []string{"> MAIL FROM:<\xff@x>", "< 501 5.6.7"}},
		{"null path", hello, []string{"> MAIL FROM:<>", "< 250 2.1.0"}},
		{"space before path", hello, []string{"> MAIL FROM: <a@x> ", "< 250 2.1.0"}},
		{"mail twice", open, []string{"> MAIL FROM:<a@x>", "< 503 5.5.1"}},
		{"mail refused", hello, []string{"> MAIL FROM:<refuse@x>", "< 550 5.1.1", "> RCPT TO:<a@x>", "< 503 5.5.1", "> MAIL FROM:<a@x>", "< 250"}},
		{"mail later", hello, []string{"> MAIL FROM:<later@x>", "< 450 4.0.0"}},
		{"mail broken", hello, []string{"> MAIL FROM:<break@x>", "< 451 4.3.0"}},
		{"mail silly", hello, []string{"> MAIL FROM:<silly@x>", "< 451 4.3.0"}},
		{"mail parameters", hello, []string{"> MAIL FROM:<a@x> SIZE=10 BODY=8BITMIME SMTPUTF8 RET=FULL ENVID=a+2Bb", "< 250 2.1.0"}},
		{"bad size", hello, []string{"> MAIL FROM:<a@x> SIZE=-1", "< 501 5.5.4", "> MAIL FROM:<a@x> SIZE=x", "< 501 5.5.4", "> MAIL FROM:<a@x> SIZE=99999999999999999999", "< 501 5.5.4"}},
		{"bad body", hello, []string{"> MAIL FROM:<a@x> BODY=BINARYMIME", "< 501 5.5.4"}},
		{"bad ret", hello, []string{"> MAIL FROM:<a@x> RET=SOME", "< 501 5.5.4"}},
		{"bad envid", hello, []string{"> MAIL FROM:<a@x> ENVID=a+0Ab", "< 501 5.5.4", "> MAIL FROM:<a@x> ENVID=", "< 501 5.5.4"}},
		{"bad smtputf8", hello, []string{"> MAIL FROM:<a@x> SMTPUTF8=yes", "< 501 5.5.4"}},
		{"parameter twice", hello, []string{"> MAIL FROM:<a@x> SIZE=1 size=2", "< 501 5.5.4"}},
		{"unknown parameter", hello, []string{"> MAIL FROM:<a@x> AUTH=<>", "< 555 5.5.4 unknown parameter AUTH", "> MAIL FROM:<a@x> FOO", "< 555 5.5.4"}},
	})
}

func TestRcptReplies(t *testing.T) {
	playAll(t, []dialogue{
		{"rcpt first", hello, []string{"> RCPT TO:<a@x>", "< 503 5.5.1"}},
		{"rcpt syntax", open, []string{"> RCPT", "< 501 5.5.4", "> RCPT FROM:<a@x>", "< 501 5.5.4"}},
		{"rcpt path", open, []string{"> RCPT TO:<>", "< 501 5.1.3", "> RCPT TO:<a b@x>", "< 501 5.1.3"}},
		{"rcpt not UTF-8", open, []string{"> RCPT TO:<a@\xffx>", "< 501 5.6.7"}},
		{"rcpt postmaster", open, []string{"> RCPT TO:<postmaster>", "< 250 2.1.5"}},
		{"rcpt refused", open, []string{"> RCPT TO:<refuse@x>", "< 550 5.1.1 no such user", "> RCPT TO:<bare@x>", "< 550 no code"}},
		{"rcpt later", open, []string{"> RCPT TO:<later@x>", "< 450 4.0.0"}},
		{"rcpt broken", open, []string{"> RCPT TO:<break@x>", "< 451 4.3.0"}},
		{"rcpt parameters", open, []string{"> RCPT TO:<c@x> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;c@y", "< 250 2.1.5", "> RCPT TO:<c@x> NOTIFY=NEVER", "< 250"}},
		{"bad notify", open, []string{"> RCPT TO:<c@x> NOTIFY=NEVER,SUCCESS", "< 501 5.5.4", "> RCPT TO:<c@x> NOTIFY=", "< 501 5.5.4", "> RCPT TO:<c@x> NOTIFY=DELAY,DELAY", "< 501 5.5.4"}},
		{"bad orcpt", open, []string{"> RCPT TO:<c@x> ORCPT=c@y", "< 501 5.5.4", "> RCPT TO:<c@x> ORCPT=rfc822;+0A", "< 501 5.5.4"}},
		{"unknown rcpt parameter", open, []string{"> RCPT TO:<c@x> RRVS=1", "< 555 5.5.4"}},
	})
}

func TestDataReplies(t *testing.T) {
	playAll(t, []dialogue{
		{"data", open, []string{"> DATA", "< 354", "> hello", "> .", "< 250 2.0.0 ok ID", "> DATA", "< 503 5.5.1"}},
		{"data with argument", open, []string{"> DATA now", "< 501 5.5.4", "> DATA", "< 354", "> .", "< 250"}},
		{"data first", hello, []string{"> DATA", "< 503 5.5.1"}},
		{"data without rcpt", hello, []string{"> MAIL FROM:<>", "< 250", "> DATA", "< 503 5.5.1"}},
		{"all refused", hello, []string{"> MAIL FROM:<>", "< 250", "> RCPT TO:<refuse@x>", "< 550", "> DATA", "< 554 5.5.1", "> RSET", "< 250"}},
		{"session broken", hello, []string{"> MAIL FROM:<fail@x>", "< 250", "> RCPT TO:<b@x>", "< 250", "> DATA", "< 354", "> x", "> .", "< 451 4.3.0", "> NOOP", "< 250"}},
		{"refused early", hello, []string{"> MAIL FROM:<early@x>", "< 250", "> RCPT TO:<b@x>", "< 250", "> DATA", "< 354", "> " + strings.Repeat("xx\r\n", 100_000), "> .", "< 554 5.4.6", "> NOOP", "< 250"}},
		{"unread content", hello, []string{"> MAIL FROM:<unread@x>", "< 250", "> RCPT TO:<b@x>", "< 250", "> DATA", "< 354", "> x", "> .", "< 250", "> NOOP", "< 250"}},
		{"overlooked stray", hello, []string{"> MAIL FROM:<deaf@x>", "< 250", "> RCPT TO:<b@x>", "< 250", "> DATA", "< 354", "> x\ny", "> .", "< 550 5.5.2"}},
		{"text line too long", open, []string{"> DATA", "< 354", "> " + strings.Repeat("x", 2000), "> .", "< 550 5.6.0", "> NOOP", "< 250"}},
		{"rset ends it", open, []string{"> RSET", "< 250 2.0.0", "> RCPT TO:<b@x>", "< 503 5.5.1"}},
		{"ehlo ends it", open, []string{"> EHLO again", "< 250", "> RCPT TO:<b@x>", "< 503 5.5.1"}},
	})
}

func TestBdatReplies(t *testing.T) {
	playAll(t, []dialogue{
		{"bdat", open, []string{">> BDAT 3\r\na\r\n", "< 250 2.0.0 3", ">> BDAT 3 LAST\r\nb\r\n", "< 250 2.0.0 ok ID"}},
		{"bdat at once", open, []string{">> BDAT 1 last\r\na", "< 250 2.0.0 ok ID"}},
		{"bdat ended empty", open, []string{">> BDAT 1\r\na", "< 250", "> BDAT 0 LAST", "< 250 2.0.0 ok ID"}},
		{"bdat first", hello, []string{">> BDAT 5\r\nNOOP\n", "< 503 5.5.1", "> NOOP", "< 250"}},
		{"bdat all refused", hello, []string{"> MAIL FROM:<>", "< 250", "> RCPT TO:<refuse@x>", "< 550", ">> BDAT 2 LAST\r\nxx", "< 554 5.5.1", "> NOOP", "< 250"}},
		{"bdat malformed", open, []string{"> BDAT", "< 501 5.5.4", "< EOF"}},
		{"bdat negative", open, []string{"> BDAT -1 LAST", "< 501 5.5.4", "< EOF"}},
		{"bdat bad word", open, []string{"> BDAT 1 FIRST", "< 501 5.5.4", "< EOF"}},
		{"bdat then malformed", open, []string{">> BDAT 1\r\na", "< 250", "> BDAT x", "< 501 5.5.4", "< EOF"}},
		{"bdat then rset", open, []string{">> BDAT 1\r\na", "< 250", "> RSET", "< 250", "> RCPT TO:<b@x>", "< 503"}},
		{"bdat then quit", open, []string{">> BDAT 1\r\na", "< 250", "> QUIT", "< 221", "< EOF"}},
		{"bdat then ehlo", open, []string{">> BDAT 1\r\na", "< 250", "> EHLO x", "< 250", "> MAIL FROM:<>", "< 250"}},
		{"bdat then others", open, []string{">> BDAT 1\r\na", "< 250", "> NOOP", "< 250", "> DATA", "< 503", "> MAIL FROM:<>", "< 503", "> BDAT 0 LAST", "< 250 2.0.0 ok"}},
		{"bdat refused early", hello, []string{"> MAIL FROM:<early@x>", "< 250", "> RCPT TO:<b@x>", "< 250", ">> BDAT 6\r\nabcdef", "< 554 5.4.6", ">> BDAT 2 LAST\r\nxx", "< 503", "> NOOP", "< 250"}},
		{"bdat broken", hello, []string{"> MAIL FROM:<fail@x>", "< 250", "> RCPT TO:<b@x>", "< 250", ">> BDAT 2\r\nab", "< 250", "> BDAT 0 LAST", "< 451 4.3.0"}},
		{"bdat unread", hello, []string{"> MAIL FROM:<unread@x>", "< 250", "> RCPT TO:<b@x>", "< 250", ">> BDAT 2 LAST\r\nab", "< 451 4.3.0", "> NOOP", "< 250"}},
		{"bdat stray", open, []string{">> BDAT 4 LAST\r\na\nbc", "< 550 5.5.2", "> NOOP", "< 250"}},
		{"bdat too big", open, []string{">> BDAT 60000\r\n" + strings.Repeat("a", 60000), "< 552 5.3.4", "> NOOP", "< 250"}},
		{"bdat absurd", open, []string{"> BDAT 9000000000000000000", "< 552 5.3.4", "< EOF"}},
		{"bdat absurd refused", hello, []string{"> BDAT 9000000000000000000", "< 503 5.5.1", "< EOF"}},
	})
}

func TestErrorLimit(t *testing.T) {
	playAll(t, []dialogue{
		{"too many errors", hello, append(repeat("> X", "< 500", 10), "< 421 4.7.0", "< EOF")},
		{"errors forgiven by mail", open, append(append(repeat("> X", "< 500", 9), "> DATA", "< 354", "> .", "< 250"), repeat("> X", "< 500", 9)...)},
		{"refusals are no errors", open, append(repeat("> RCPT TO:<refuse@x>", "< 550", 30), repeat("> RCPT TO:<bad>", "< 501", 30)...)},
	})
}

func repeat(a, b string, n int) []string {
	var out []string
	for range n {
		out = append(out, a, b)
	}
	return out
}

func TestEHLOAnnounces(t *testing.T) {
	addr, _, _ := serve(t, Config{MaxSize: 1234, MaxRecipients: 77})
	c := connect(t, addr)
	c.play("< 220", ">> EHLO x\r\nQUIT\r\n")
	var all strings.Builder
	for {
		s, err := c.in.ReadString('\n')
		if err != nil {
			break
		}
		all.WriteString(s)
	}
	want := "250-mx.example\r\n250-PIPELINING\r\n250-SIZE 1234\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250-DSN\r\n250-SMTPUTF8\r\n250-CHUNKING\r\n250 LIMITS RCPTMAX=77\r\n221 2.0.0 bye\r\n"
	if all.String() != want {
		t.Errorf("got %q, want %q", all.String(), want)
	}
}

// Endings that other servers may take for the end of data (SMTP smuggling).
func TestSmuggling(t *testing.T) {
	const smuggled = "MAIL FROM:<evil@x>\r\nRCPT TO:<b@x>\r\nDATA\r\nevil\r\n.\r\n"
	for name, ending := range map[string]string{
		"LF.LF": "\n.\n", "LF.CRLF": "\n.\r\n", "CRLF.LF": "\r\n.\n", "CR.CR": "\r.\r", "CR.CRLF": "\r.\r\n",
		"CRLF.CR": "\r\n.\r", "CR.LF": "\r.\n", "LF.CR": "\n.\r", "CRLF.CRCRLF": "\r\n.\r\r\n",
		"CRLF NUL.CRLF": "\r\n\x00.\r\n", "CRLF.NUL CRLF": "\r\n.\x00\r\n", "LFCR.LFCR": "\n\r.\n\r",
	} {
		for _, policy := range []wire.Policy{wire.Reject, wire.Normalise} {
			t.Run(name, func(t *testing.T) {
				addr, k, _ := serve(t, Config{LineEnds: policy})
				c := connect(t, addr)
				c.play("< 220", "> EHLO x", "< 250", "> MAIL FROM:<a@x>", "< 250", "> RCPT TO:<b@x>", "< 250", "> DATA", "< 354")
				c.send("hello" + ending + smuggled)
				if policy == wire.Reject {
					c.want("550 5.5.2")
				} else {
					c.want("250 2.0.0")
				}
				c.play("> QUIT", "< 221", "< EOF")
				for _, m := range k.all() {
					if m.from != "a@x" || strings.ContainsAny(strings.ReplaceAll(m.content, "\r\n", ""), "\r\n\x00") {
						t.Errorf("took %+v", m)
					}
				}
			})
		}
	}
	t.Run("CRCRLF.CRLF", func(t *testing.T) { // holds the one true ending: go-smtp's server hangs here
		addr, k, _ := serve(t, Config{})
		connect(t, addr).play("< 220", "> EHLO x", "< 250", "> MAIL FROM:<a@x>", "< 250", "> RCPT TO:<b@x>", "< 250", "> DATA", "< 354",
			">> hello\r\r\n.\r\n", "< 550 5.5.2 bare CR", "> NOOP", "< 250")
		if len(k.all()) != 0 {
			t.Error("taken")
		}
	})
}
