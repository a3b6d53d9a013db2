package bus

import (
	"bytes"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"
)

// TestCompressorsAreReadByAnyClient has what they make read by the library.
func TestCompressorsAreReadByAnyClient(t *testing.T) {
	compressors := map[string]kgo.Compressor{"batch": batchCompressor{}, "fast": fastCompressor{}, "stored": stored{}}
	for name, c := range compressors {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				unit := rapid.SliceOfN(rapid.Byte(), 1, 2000).Draw(t, "unit")
				src := bytes.Repeat(unit, rapid.IntRange(1, 50).Draw(t, "times"))
				dst := bytes.NewBuffer(make([]byte, 0, rapid.IntRange(0, 1<<16).Draw(t, "room")))
				out, codec := c.Compress(dst, bytes.Clone(src))
				got, err := kgo.DefaultDecompressor().Decompress(bytes.Clone(out), codec)
				if err != nil || !bytes.Equal(got, src) {
					t.Fatalf("%d octets came back as %d: %v", len(src), len(got), err)
				}
				if len(out) > len(src) {
					t.Errorf("%d octets became %d", len(src), len(out))
				}
			})
		})
	}
}
