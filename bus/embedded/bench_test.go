package embedded

import (
	"testing"

	"qstream/bus"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// What one accepted message of 10 KB costs until it is on the disk, by how
// many wait at once: -cpu doesn't matter, the disk does.
func BenchmarkPublish(b *testing.B) {
	k, err := Start(Config{Dir: b.TempDir(), MinFree: 1, MaxBytes: 1 << 40})
	if err != nil {
		b.Fatal(err)
	}
	defer k.Close()
	d, err := bus.Dial(bus.Config{Seeds: k.Seeds(), Barrier: k.Barrier})
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	if _, err := d.CreateTopics(b.Context(), schemas.FixedTopics(), bus.CreateOptions{}); err != nil {
		b.Fatal(err)
	}
	content := &pb.Content{Where: &pb.Content_Inline{Inline: base64Noise(10 << 10)}}
	b.SetParallelism(25)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			r := bus.NewReceived(&pb.Received{Id: "M", Content: content})
			if err := d.Publish(b.Context(), &r); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
