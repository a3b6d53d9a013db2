package smtpd

import (
	"bytes"
	"context"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"qstream/wire"
)

// tape is a connection whose client has sent everything already.
type tape struct {
	in   io.Reader
	size int // of a read; 0: any
	out  bytes.Buffer
}

func (c *tape) Read(p []byte) (int, error) {
	if c.size > 0 {
		p = p[:min(len(p), c.size)]
	}
	return c.in.Read(p)
}

func (c *tape) Write(p []byte) (int, error)      { return c.out.Write(p) }
func (c *tape) Close() error                     { return nil }
func (c *tape) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *tape) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1} }
func (c *tape) SetDeadline(time.Time) error      { return nil }
func (c *tape) SetReadDeadline(time.Time) error  { return nil }
func (c *tape) SetWriteDeadline(time.Time) error { return nil }

var replyLine = regexp.MustCompile(`^[2345][0-9][0-9][ -][^\r\n\x00]*$`)

// Whatever a client sends, and however it is cut into packets, the dialogue
// ends, its replies are well formed, and what is taken is clean.
func FuzzDialogue(f *testing.F) {
	const envelope = "EHLO x\r\nMAIL FROM:<a@x> SIZE=5\r\nRCPT TO:<b@x> NOTIFY=NEVER\r\n"
	for _, s := range []string{
		envelope + "DATA\r\nhello\r\n..\r\n.\r\nQUIT\r\n",
		envelope + "BDAT 3\r\na\r\nBDAT 2 LAST\r\n\r\nNOOP\r\n",
		envelope + "BDAT 3\r\na\r\nRSET\r\nMAIL FROM:<early@x>\r\nRCPT TO:<b@x>\r\nBDAT 9 LAST\r\nabcdefghi",
		envelope + "DATA\r\nhello\n.\nMAIL FROM:<>\r\n.\r\nRSET\r\n",
		"HELO x\nMAIL FROM:<\xff>\r\nVRFY\r\nHELP\r\nGET / HTTP/1.1\r\n",
		"STARTTLS\r\nEHLO x\r\nRCPT TO:<a@[IPv6:::1]> ORCPT=utf-8;\\x{FC}\r\n",
	} {
		f.Add([]byte("EHLO x\r\nAUTH PLAIN AGEAYg==\r\nAUTH LOGIN\r\nYQ==\r\n*\r\n"+s), uint8(0), false)
		f.Add([]byte(s), uint8(0), false)
		f.Add([]byte(s), uint8(1), true)
	}
	f.Fuzz(func(t *testing.T, in []byte, size uint8, normalise bool) {
		whole, mails := replay(t, in, 0, normalise)
		pieces, again := replay(t, in, int(size%16)+1, normalise)
		n := min(len(mails), len(again))
		if !alike(whole, pieces) || n < max(len(mails), len(again)) && whole == pieces {
			t.Fatalf("whole: %q; in pieces: %q", whole, pieces)
		}
		mails, again = mails[:n], again[:n]
		for l := range strings.SplitSeq(strings.TrimSuffix(whole, "\r\n"), "\r\n") {
			if !replyLine.MatchString(l) || len(l) > 510 {
				t.Fatalf("reply %q", l)
			}
		}
		for i, m := range mails {
			if len(m.to) == 0 || m.content != again[i].content || m.from != again[i].from {
				t.Fatalf("took %+v, and in pieces %+v", m, again[i])
			}
			if strings.ContainsAny(strings.ReplaceAll(m.content, "\r\n", ""), "\r\n\x00") {
				t.Fatalf("took %q", m.content)
			}
		}
	})
}

// alike reports that two dialogues are the same, up to where one was ended
// because the client had sent more behind a refused DATA: whether that is seen
// depends on how it came.
func alike(a, b string) bool {
	const ahead = "421 4.7.0 speak when you are answered\r\n"
	a, endedA := strings.CutSuffix(a, ahead)
	b, endedB := strings.CutSuffix(b, ahead)
	return a == b || endedA && strings.HasPrefix(b, a) || endedB && strings.HasPrefix(a, b)
}

func replay(t *testing.T, in []byte, size int, normalise bool) (replies string, mails []kept) {
	k := &keeper{}
	cfg := Config{Hostname: "mx.example", MaxSize: 1000, Auth: users(t), PlainAuth: true}
	if normalise {
		cfg.LineEnds = wire.Normalise
	}
	s, err := New(cfg, k.backend, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &tape{in: bytes.NewReader(in), size: size}
	newConn(s, c).Run(context.Background())
	return c.out.String(), k.mails
}
