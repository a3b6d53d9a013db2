package intake

import (
	"context"
	"strings"
	"testing"
	"time"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/directory"
	"qstream/ingest/quota"
	pb "qstream/schemas/qstream/v1"
)

// An envelope, asked and counted, without a quota and with one.
func BenchmarkEnvelope(b *testing.B)          { benchmarkEnvelope(b, "") }
func BenchmarkEnvelopeWithQuota(b *testing.B) { benchmarkEnvelope(b, benchQuota) }

const benchQuota = "quota: {in: {messages: 1000000000/1h, recipients: 1000000000/1h, bytes: 1000TiB/1h}, waiting: {messages: 1000000, oldest: 4h}}\n"

func benchmarkEnvelope(b *testing.B, limits string) {
	docs, err := directory.Parse(directory.File{Name: "t.yaml", Data: []byte(strings.Replace(site, "name: acme\ndomains", "name: acme\n"+limits+"domains", 1))})
	if err != nil {
		b.Fatal(err)
	}
	snapshot, err := directory.Build(docs)
	if err != nil {
		b.Fatal(err)
	}
	onBus := bustest.New(b)
	book, err := quota.New(quota.Config{Bus: onBus})
	if err != nil {
		b.Fatal(err)
	}
	for _, kind := range []pb.UsageKind{pb.UsageKind_USAGE_KIND_WAITING, pb.UsageKind_USAGE_KIND_LEDGER} {
		bustest.Put(b, onBus, bus.NewUsage(&pb.Usage{Kind: kind, Writer: "ledger", Tenant: "acme", Messages: 10, AtMs: time.Now().Add(time.Hour).UnixMilli()}))
	}
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(b.Context())
	go func() { done <- book.Run(ctx) }()
	defer func() { cancel(); <-done }()
	<-book.CaughtUp()
	in, err := New(Config{Hostname: "edge.example"}, Deps{Bus: onBus, Snapshot: func() *directory.Snapshot { return snapshot }, Quota: book})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		s, err := in.NewSession(b.Context(), Client{})
		for p.Next() {
			if err == nil {
				err = s.Mail("ann@sender.example", nil)
			}
			if err == nil {
				err = s.Rcpt("bob@acme.example", nil)
			}
			if err != nil {
				b.Error(err)
				return
			}
			s.count(10_000)
		}
	})
}
