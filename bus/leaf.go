package bus

import (
	"crypto/sha256"

	"qstream/schemas/chain"
)

// Leaf is what the record's hash in the chain of custody is made of. Only of a
// record that was read, which has its place and time.
func (r Record) Leaf() chain.Leaf {
	l := chain.Leaf{
		Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, AtMs: r.Time.UnixMilli(),
		Key: r.Key, Value: sha256.Sum256(r.Value),
	}
	for _, h := range r.Headers {
		l.Headers = append(l.Headers, chain.Header{Key: h.Key, Value: h.Value})
	}
	return l
}
