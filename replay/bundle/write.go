package bundle

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/replay"
	"qstream/replay/custody"
	"qstream/schemas"
	"qstream/schemas/chain"
	pb "qstream/schemas/qstream/v1"
)

// Order is what a bundle is asked for.
type Order struct {
	Selection replay.Selection
	Manifest  Manifest // Made, Actor and Reason; the rest is filled in
	Key       ed25519.PrivateKey
	Trust     func(ed25519.PublicKey) bool // whose checkpoints count; nil: anybody's
	Temp      string                       // folder for what has to wait; default os.TempDir
}

// Write writes the bundle of a selection to w and returns its manifest. What
// it wrote before an error is no bundle.
func Write(ctx context.Context, h *replay.History, o Order, w io.Writer) (*Manifest, error) {
	out := bufio.NewWriterSize(w, 64<<10)
	b := &writer{tar: tar.NewWriter(out), manifest: o.Manifest}
	b.manifest.Format, b.manifest.What = Format, o.Selection
	b.manifest.Key = o.Key.Public().(ed25519.PublicKey)
	if err := b.bytes(readmeName, []byte(readme)); err != nil {
		return nil, err
	}
	since, err := o.Selection.Begin()
	if err != nil {
		return nil, err
	}
	ids, err := b.messages(ctx, h, o)
	if err != nil {
		return nil, err
	}
	if err := b.events(ctx, h, o, since, ids); err != nil {
		return nil, err
	}
	if err := b.proofs(ctx, h, o, since); err != nil {
		return nil, err
	}
	return &b.manifest, errors.Join(b.sign(o.Key), out.Flush())
}

// sign ends the archive.
func (b *writer) sign(key ed25519.PrivateKey) error {
	text, err := json.MarshalIndent(&b.manifest, "", " ")
	if err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	return errors.Join(b.put(manifestName, text), b.put(signName, ed25519.Sign(key, text)), b.tar.Close())
}

// writer writes the archive and notes what is in it.
type writer struct {
	tar      *tar.Writer
	manifest Manifest
	records  map[chain.Part]map[int64]bool // that are in it, to be proved
}

// record notes that a record is in the bundle.
func (b *writer) record(r bus.Record) {
	p := chain.Part{Topic: r.Topic, Partition: r.Partition}
	if b.records[p] == nil {
		if b.records == nil {
			b.records = map[chain.Part]map[int64]bool{}
		}
		b.records[p] = map[int64]bool{}
	}
	b.records[p][r.Offset] = true
}

// put writes a file that the manifest doesn't name.
func (b *writer) put(name string, data []byte) error {
	if err := b.tar.WriteHeader(header(name, int64(len(data)))); err != nil {
		return fmt.Errorf("bundle %s: %w", name, err)
	}
	_, err := b.tar.Write(data)
	return err
}

func (b *writer) bytes(name string, data []byte) error {
	b.note(name, int64(len(data)), sha256.Sum256(data))
	return b.put(name, data)
}

func (b *writer) note(name string, size int64, sum [sha256.Size]byte) {
	b.manifest.Files = append(b.manifest.Files, File{name, size, fmt.Sprintf("%x", sum)})
}

// stream writes a file of a size that is known.
func (b *writer) stream(name string, size int64, r io.Reader) error {
	if err := b.tar.WriteHeader(header(name, size)); err != nil {
		return fmt.Errorf("bundle %s: %w", name, err)
	}
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(b.tar, sum), r); err != nil {
		return fmt.Errorf("bundle %s: %w", name, err)
	}
	b.note(name, size, [sha256.Size]byte(sum.Sum(nil)))
	return nil
}

// messages writes records and contents, and then what is told of them.
func (b *writer) messages(ctx context.Context, h *replay.History, o Order) (map[string]bool, error) {
	ids := map[string]bool{}
	lines, err := newLines(o.Temp)
	if err != nil {
		return nil, err
	}
	defer lines.close()
	err = h.Select(ctx, o.Selection, func(m *replay.Message) error {
		if ids[m.ID()] { // a record that repeats another
			return nil
		}
		ids[m.ID()] = true
		r := m.Record()
		b.record(r)
		if err := b.bytes("received/"+m.ID()+".record", r.Value); err != nil {
			return err
		}
		body, err := m.OpenContent(ctx)
		if err != nil {
			return err
		}
		defer body.Close()
		if err := b.stream("content/"+m.ID()+".eml", m.Content.Size, body); err != nil {
			return err
		}
		return lines.add(m.Info())
	})
	if err != nil {
		return nil, err
	}
	b.manifest.Messages = len(ids)
	return ids, lines.into(b, messagesName)
}

// events writes what was told of the messages and of those made of them.
func (b *writer) events(ctx context.Context, h *replay.History, o Order, since time.Time, ids map[string]bool) error {
	lines, err := newLines(o.Temp)
	if err != nil {
		return err
	}
	defer lines.close()
	err = h.Bus.Read(ctx, []string{schemas.Events}, bus.Start{Since: since, Pace: h.Pace}, func(r bus.Record) error {
		var e pb.Event
		if proto.Unmarshal(r.Value, &e) != nil || !ids[e.MessageId] && !ids[e.ParentId] {
			return nil
		}
		b.manifest.Events++
		b.record(r)
		return lines.add(Placed{r.Topic, r.Partition, r.Offset, r.Time.UTC(), r.Value})
	})
	if err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	return lines.into(b, eventsName)
}

// proofs writes what shows that the records stood in the log when it was
// signed.
func (b *writer) proofs(ctx context.Context, h *replay.History, o Order, since time.Time) error {
	found, err := custody.Prove(ctx, h.Bus, b.records, since, o.Trust)
	if err != nil {
		return fmt.Errorf("prove the records: %w", err)
	}
	b.manifest.Proved, b.manifest.Unproved = len(found.Proofs), found.Unsigned
	if len(found.Proofs) == 0 {
		return nil
	}
	checkpoints, err := newLines(o.Temp)
	if err != nil {
		return err
	}
	defer checkpoints.close()
	for _, value := range found.Checkpoints {
		if err := checkpoints.add(value); err != nil {
			return err
		}
	}
	if err := checkpoints.into(b, checkpointsName); err != nil {
		return err
	}
	proofs, err := newLines(o.Temp)
	if err != nil {
		return err
	}
	defer proofs.close()
	for _, p := range found.Proofs {
		if err := proofs.add(p); err != nil {
			return err
		}
	}
	return proofs.into(b, proofsName)
}

// lines collects JSON in a file without a name, since an archive wants sizes
// first.
type lines struct {
	file *os.File
	w    *bufio.Writer
	size int64
}

func newLines(dir string) (*lines, error) {
	f, err := os.CreateTemp(dir, "qstream-bundle-")
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	_ = os.Remove(f.Name())
	return &lines{file: f, w: bufio.NewWriter(f)}, nil
}

func (l *lines) add(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	n, err := l.w.Write(append(text, '\n'))
	l.size += int64(n)
	return err
}

func (l *lines) into(b *writer, name string) error {
	if err := l.w.Flush(); err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	if _, err := l.file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	return b.stream(name, l.size, l.file)
}

func (l *lines) close() { _ = l.file.Close() }
