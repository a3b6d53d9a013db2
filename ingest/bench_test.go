package ingest

import (
	"io"
	"strings"
	"testing"

	"qstream/bus/bustest"
)

// A message of 10 KB from the socket to the broker's acknowledgement, by many
// clients that pipeline. The broker runs in this process.
func BenchmarkMail(b *testing.B) { benchmarkMail(b, site) }

// The same with every kind of policy that asks no DNS.
func BenchmarkMailWithPolicies(b *testing.B) { benchmarkMail(b, site+benchPolicy) }

const benchPolicy = `
---
kind: policy
name: p
bad_mail_from: ["*%*", "@spam.example", "@mydomain.example+", "!x@y.example"]
bad_rcpt_to: [nobody@acme.example, "*..*"]
bad_helo: [localhost, "*.dialup.example"]
bad_mime_types: [TVqQAAMAA, TVpQAAIAA, TVoAAAQAA]
bad_loader_types: [Mi5kb, MzIuZ]
recipients: {list: [a@acme.example, b@acme.example, bob@acme.example]}
variables: {DATABYTES: 1000000, TARPITCOUNT: 5}
`

func benchmarkMail(b *testing.B, site string) {
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
