package smtp_test

import (
	"strings"
	"testing"
	"time"

	"qstream/test/fakemx"
	"qstream/transport/smtp"
)

func BenchmarkDeliver(b *testing.B) {
	s, err := fakemx.Start(fakemx.Config{DigestOnly: true})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	body := strings.Repeat(strings.Repeat("x", 70)+"\r\n", 142)
	for name, idle := range map[string]time.Duration{"reused": 0, "connected": -1} {
		b.Run(name, func(b *testing.B) {
			c, err := smtp.New(smtp.Config{Resolver: dead(b), Idle: idle})
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			b.SetBytes(int64(len(body)))
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if r := c.Deliver(b.Context(), to(s), attempt(body, "b@rcpt.example")); !r.Delivered() {
						b.Errorf("%+v", r)
					}
				}
			})
		})
	}
}
