package bundle

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"time"

	"qstream/mail"
	"qstream/replay/custody"
	"qstream/schemas/chain"
)

// proofs is what is checked of the chain of custody. Checkpoints stand before
// proofs, and both behind the records: each is checked as it is read.
type proofs struct {
	records     map[string]chain.Hash // of received records' values, by message id
	values      map[place]stood       // of all records
	checkpoints map[uint64]*chain.Signed
	keys        map[string]bool // fingerprints
	signers     []ed25519.PublicKey
	proved      map[place]bool
}

// stood is a record as the bundle has it.
type stood struct {
	value chain.Hash
	atMs  int64 // append time
}

type place struct {
	part   chain.Part
	offset int64
}

func newProofs() proofs {
	return proofs{
		records: map[string]chain.Hash{}, values: map[place]stood{}, checkpoints: map[uint64]*chain.Signed{},
		keys: map[string]bool{}, proved: map[place]bool{},
	}
}

// stands notes where a record stands.
func (p *proofs) stands(topic string, partition int32, offset int64, at time.Time, value chain.Hash) {
	p.values[place{chain.Part{Topic: topic, Partition: partition}, offset}] = stood{value, at.UnixMilli()}
}

func (p *proofs) checkpoint(line []byte) error {
	var value []byte
	if err := json.Unmarshal(line, &value); err != nil {
		return falsef("%w", err)
	}
	c, err := chain.Open(value)
	if err != nil {
		return falsef("%w", err)
	}
	if p.checkpoints[c.Number] != nil {
		return falsef("two checkpoints of number %d", c.Number)
	}
	p.checkpoints[c.Number] = c
	if f := custody.Fingerprint(c.Key); !p.keys[f] {
		p.keys[f] = true
		p.signers = append(p.signers, c.Key)
	}
	return nil
}

func (p *proofs) proof(line []byte) error {
	var proof custody.Proof
	if err := json.Unmarshal(line, &proof); err != nil {
		return falsef("%w", err)
	}
	at := place{chain.Part{Topic: proof.Topic, Partition: proof.Partition}, proof.Offset}
	record, ok := p.values[at]
	c := p.checkpoints[proof.Checkpoint]
	if !ok || c == nil || p.proved[at] {
		return falsef("a proof about %s/%d at %d, of which record or checkpoint isn't here, or another is", mail.Printable(proof.Topic), proof.Partition, proof.Offset)
	}
	if proof.AtMs != record.atMs {
		return falsef("%s/%d at %d: another time than in the proof", mail.Printable(proof.Topic), proof.Partition, proof.Offset)
	}
	if err := proof.Check(record.value, c); err != nil {
		return falsef("%s/%d at %d: %w", mail.Printable(proof.Topic), proof.Partition, proof.Offset, err)
	}
	p.proved[at] = true
	return nil
}

// complete checks the number of proofs, and whose they are.
func (p *proofs) complete(m *Manifest, key ed25519.PublicKey) error {
	if len(p.proved) != m.Proved || len(p.values) != m.Proved+m.Unproved {
		return falsef("%d of %d records are proved, the manifest tells of %d and %d others", len(p.proved), len(p.values), m.Proved, m.Unproved)
	}
	if key != nil && len(p.proved) == 0 {
		return falsef("none of its records is under a checkpoint, of key %s or another", custody.Fingerprint(key))
	}
	for _, k := range p.signers {
		if key != nil && !bytes.Equal(k, key) {
			return falsef("checkpoints signed by key %s, not by the one wanted, %s", custody.Fingerprint(k), custody.Fingerprint(key))
		}
	}
	return nil
}
