package ingest

import (
	"io"
	"strings"
	"testing"
	"time"

	"qstream/bus"
	"qstream/bus/bustest"
	pb "qstream/schemas/qstream/v1"
)

// A message of 10 KB from the socket to the broker's acknowledgement, by many
// clients that pipeline. The broker runs in this process.
func BenchmarkMail(b *testing.B) { benchmarkMail(b, site, "") }

// The same with every kind of policy that asks no DNS.
func BenchmarkMailWithPolicies(b *testing.B) { benchmarkMail(b, site+benchPolicy, "") }

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

func benchmarkMail(b *testing.B, site, from string) {
	broker := bustest.New(b)
	apply(b, broker, site)
	in, _ := start(b, broker, Config{})
	bustest.Put(b, broker, hour(pb.UsageKind_USAGE_KIND_WAITING), hour(pb.UsageKind_USAGE_KIND_LEDGER))
	await(b, in)
	content := "Subject: hello\r\n\r\n" + string(attachment(10<<10))
	envelope := strings.Replace(begin[len("EHLO x\r\n"):], "<>", "<"+from+">", 1)
	b.SetBytes(int64(len(content)))
	b.SetParallelism(25)
	b.ResetTimer()
	b.RunParallel(func(p *testing.PB) {
		c := dial(b, in)
		c.say("EHLO x\r\n", "250")
		for p.Next() {
			_, _ = io.WriteString(c, envelope+content+".\r\n")
			for range 4 {
				if reply, err := c.in.ReadString('\n'); err != nil || !strings.ContainsAny(reply[:1], "23") {
					b.Errorf("%q and %v", reply, err)
					return
				}
			}
		}
	})
}

// The same with a reverse-path, and with quotas of the tenant as well: those of
// an hour, and of what waits.
func BenchmarkMailWithReversePath(b *testing.B) { benchmarkMail(b, site, "ann@sender.example") }

func BenchmarkMailWithQuotas(b *testing.B) {
	benchmarkMail(b, strings.Replace(site, "name: acme\ndomains", "name: acme\n"+benchQuota+"domains", 1), "ann@sender.example")
}

// hour is a ledger's record whose figures hold for an hour.
func hour(kind pb.UsageKind) bus.Record {
	return bus.NewUsage(&pb.Usage{Kind: kind, Writer: "ledger", Tenant: "acme", Messages: 10, AtMs: time.Now().Add(time.Hour).UnixMilli()})
}

const benchQuota = "quota: {in: {messages: 1000000000/1h, recipients: 1000000000/1h, bytes: 1000TiB/1h}, waiting: {messages: 1000000, oldest: 4h}}\n"
