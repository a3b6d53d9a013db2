package ingest

import (
	"io"
	"strings"
	"testing"

	"qstream/bus/bustest"
)

// A message of 10 KB from the socket to the broker's acknowledgement, by many
// clients that pipeline. The broker runs in this process.
func BenchmarkMail(b *testing.B) {
	bus := bustest.New(b)
	apply(b, bus, site)
	in, _ := start(b, bus, Config{})
	content := "Subject: hello\r\n\r\n" + string(attachment(10<<10))
	b.SetBytes(int64(len(content)))
	b.SetParallelism(25)
	b.ResetTimer()
	b.RunParallel(func(p *testing.PB) {
		c := dial(b, in)
		c.say("EHLO x\r\n", "250")
		for p.Next() {
			_, _ = io.WriteString(c, begin[len("EHLO x\r\n"):]+content+".\r\n")
			for range 4 {
				if reply, err := c.in.ReadString('\n'); err != nil || !strings.ContainsAny(reply[:1], "23") {
					b.Errorf("%q and %v", reply, err)
					return
				}
			}
		}
	})
}
