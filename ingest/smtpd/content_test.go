package smtpd

import (
	"runtime"
	"strings"
	"testing"
)

// A million chunks of an octet each are one message, and take no memory of
// their own.
func TestTinyChunks(t *testing.T) {
	n := 1_000_000 / 3
	if testing.Short() {
		n /= 20
	}
	addr, k, _ := serve(t, Config{})
	c := connect(t, addr)
	c.play("< 220", "> EHLO x", "< 250", "> MAIL FROM:<a@x>", "< 250", "> RCPT TO:<b@x>", "< 250")
	before := heap()
	go func() {
		some := strings.Repeat("BDAT 1\r\nxBDAT 1\r\n\rBDAT 1\r\n\n", 100)
		for left := n; left > 0; left -= 100 {
			if _, err := c.Write([]byte(some[:len(some)/100*min(left, 100)])); err != nil {
				return // the replies tell
			}
		}
		_, _ = c.Write([]byte("BDAT 0 LAST\r\n"))
	}()
	most := before
	for i := range 3 * n {
		if r, err := c.reply(); err != nil || r != "250 2.0.0 1 octets taken" {
			t.Fatalf("chunk %d: %q %v", i, r, err)
		}
		if i%100_000 == 0 {
			most = max(most, heap())
		}
	}
	c.want("250 2.0.0 ok")
	if all := k.all(); len(all) != 1 || all[0].content != strings.Repeat("x\r\n", n) {
		t.Errorf("%d taken", len(all))
	}
	if grown := int64(most) - int64(before); grown > 16<<20 { // the keeper's copy is some of it
		t.Errorf("%d octets of heap above the start", grown)
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// Chunks, and what may stand between them, leave no message half done and
// take nothing for a command that was content.
func TestMixedChunks(t *testing.T) {
	addr, k, _ := serve(t, Config{})
	c := connect(t, addr)
	c.play("< 220", "> EHLO x", "< 250")
	const begin = "MAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\n"
	for _, tt := range []struct {
		say  string
		want []string
	}{
		{begin + "BDAT 6\r\nRSET\r\nRSET\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n", []string{"250", "250", "250 2.0.0 6", "250 2.0.0 ok", "503", "250 2.0.0 ok"}},
		{begin + "RSET\r\nBDAT 14\r\nMAIL FROM:<>\r\nNOOP\r\n", []string{"250", "250", "250", "503", "250"}},
		{begin + "BDAT 1\r\nxDATA\r\nBDAT 2 LAST\r\n.\rNOOP\r\n", []string{"250", "250", "250", "503", "550 5.5.2", "250"}},
		{begin + "BDAT 1\r\nxEHLO y\r\n" + begin + "BDAT 3 LAST\r\n.\r\nNOOP\r\n", []string{"250", "250", "250", "250", "250", "250", "250 2.0.0 ok ID", "250"}},
		{begin + "BDAT 3\r\na\r\nRSET\r\n" + begin + "DATA\r\n", []string{"250", "250", "250", "250", "250", "250", "354"}},
		{"BDAT 9 LAST\r\n\r\n.\r\n", []string{"250 2.0.0 ok ID"}},
	} {
		c.send(tt.say)
		for _, w := range tt.want {
			c.want(w)
		}
	}
	var got []string
	for _, m := range k.all() {
		got = append(got, m.content)
	}
	if want := "[.\r\n BDAT 9 LAST\r\n\r\n]"; strings.Join(got, " ") != strings.Trim(want, "[]") {
		t.Errorf("took %q", got)
	}
}
