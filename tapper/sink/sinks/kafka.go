package sinks

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"

	"qstream/bus"
	"qstream/tapper/sink"
)

// pieceSize is how much content a record carries.
const pieceSize = 512 << 10

// kafkaSink publishes copies to a topic of another cluster. A copy is one
// record with its Info as JSON, followed by records with the content in pieces.
// The key is "subscription/lane", so that all of a lane is in one partition and
// in order. Headers tell copy, subscription, lane, sequence, kind and piece
// ("0" for the Info, then from "1"); the last record has "last" with the
// SHA-256 of the content. A repetition comes whole again, from piece 0.
type kafkaSink struct {
	spec sink.Spec
	deps sink.Deps
	cfg  *tls.Config // nil: in clear

	mu  sync.Mutex
	bus *bus.Bus
}

func newKafka(spec sink.Spec, d sink.Deps) (*kafkaSink, error) {
	s := &kafkaSink{spec: spec, deps: d}
	if spec.Option("tls") == "off" {
		return s, nil
	}
	var err error
	if s.cfg, err = tlsConfig(spec); err != nil {
		return nil, err
	}
	if file := spec.Option("cert_file"); file != "" {
		own, err := tls.LoadX509KeyPair(file, spec.Option("key_file"))
		if err != nil {
			return nil, fmt.Errorf("read certificate: %w", err)
		}
		s.cfg.Certificates = []tls.Certificate{own}
	}
	return s, nil
}

// cluster is the other cluster's bus, which is dialed once.
func (s *kafkaSink) cluster() (*bus.Bus, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bus != nil {
		return s.bus, nil
	}
	cfg := bus.Config{Seeds: s.spec.Seeds, ClientID: "qstream-sink", TLS: s.cfg, Log: s.deps.Log}
	if mechanism := s.spec.Option("sasl"); mechanism != "" {
		password, err := lines(s.spec.Option("password_file"))
		if err != nil {
			return nil, err
		}
		cfg.SASL = bus.SASL{Mechanism: mechanism, User: s.spec.Option("user"), Password: password[0]}
	}
	b, err := bus.Dial(cfg)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	s.bus = b
	return b, nil
}

func (s *kafkaSink) Put(ctx context.Context, c sink.Copy) error {
	if err := c.Check(); err != nil {
		return err
	}
	b, err := s.cluster()
	if err != nil {
		return err
	}
	info, err := c.JSON()
	if err != nil {
		return err
	}
	if c.Open == nil {
		sum := sha256.Sum256(nil)
		return b.Publish(ctx, s.record(&c, 0, info, sum[:]))
	}
	content, err := c.Open(ctx)
	if err != nil {
		return err
	}
	defer content.Close()
	if err := b.Publish(ctx, s.record(&c, 0, info, nil)); err != nil {
		return err
	}
	return s.pieces(ctx, b, &c, content)
}

// pieces publishes content one record after the other. The last one is sent
// when the content has shown to be whole.
func (s *kafkaSink) pieces(ctx context.Context, b *bus.Bus, c *sink.Copy, content io.Reader) error {
	sum, left := sha256.New(), c.Size
	for n := 1; ; n++ {
		piece := make([]byte, min(left, pieceSize))
		if _, err := io.ReadFull(content, piece); err != nil {
			return errors.Join(sink.ErrSize, err)
		}
		sum.Write(piece)
		left -= int64(len(piece))
		var last []byte
		if left == 0 {
			if n, err := content.Read(make([]byte, 1)); n > 0 || err != io.EOF {
				return errors.Join(sink.ErrSize, err)
			}
			last = sum.Sum(nil)
		}
		if err := b.Publish(ctx, s.record(c, n, piece, last)); err != nil || last != nil {
			return err
		}
	}
}

func (s *kafkaSink) record(c *sink.Copy, piece int, value, last []byte) *bus.Record {
	r := &bus.Record{Topic: s.spec.Topic, Partition: bus.AnyPartition, Key: []byte(c.Subscription + "/" + c.Lane), Value: value}
	add := func(key, value string) { r.Headers = append(r.Headers, bus.Header{Key: key, Value: []byte(value)}) }
	add("copy", c.ID)
	add("subscription", c.Subscription)
	add("lane", c.Lane)
	add("sequence", strconv.FormatUint(c.Sequence, 10))
	add("kind", c.Kind.String())
	add("piece", strconv.Itoa(piece))
	if last != nil {
		add("last", fmt.Sprintf("%x", last))
	}
	return r
}

func (s *kafkaSink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bus != nil {
		s.bus.Close()
		s.bus = nil
	}
	return nil
}
