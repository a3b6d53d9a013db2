package replay

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"qstream/bus"
	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
)

// ErrUnreadable says that a message isn't in an export, since its content isn't
// there any more, or isn't what was stored. Nothing of it was written, and
// others may follow.
var ErrUnreadable = errors.New("content can't be read")

// Exporter writes messages out, in the order in which they are added. Close
// makes what was added durable as far as the form allows; it is called once.
// Not for concurrent use.
type Exporter interface {
	Add(ctx context.Context, m *Message) error
	Close() error
}

// Info is what the JSON of an export tells of a message. Texts are as they
// came in: hostile.
type Info struct {
	ID          string          `json:"id"`
	Accepted    time.Time       `json:"accepted"`
	Topic       string          `json:"topic"`
	Partition   int32           `json:"partition"`
	Offset      int64           `json:"offset"`
	ReversePath string          `json:"reverse_path"`
	Recipients  []RecipientInfo `json:"recipients"`
	MessageID   string          `json:"message_id,omitempty"`
	Size        int64           `json:"size"`
	SHA256      string          `json:"sha256"` // of the content, without what qstream put before it
	Protocol    string          `json:"protocol,omitempty"`
	Client      string          `json:"client,omitempty"`
	ClientName  string          `json:"client_name,omitempty"`
	HELO        string          `json:"helo,omitempty"`
	User        string          `json:"user,omitempty"`
	TLS         string          `json:"tls,omitempty"`
	Edge        string          `json:"edge,omitempty"`
	Directory   uint64          `json:"directory"` // number of the snapshot that it was accepted by
}

// RecipientInfo is a selected recipient.
type RecipientInfo struct {
	Number  uint32 `json:"number"`
	Address string `json:"address"`
}

// Info tells of a message.
func (m *Message) Info() Info {
	r, s := m.Received, m.Received.GetSession()
	i := Info{
		ID: r.Id, Accepted: m.Accepted.UTC(), Topic: m.Topic, Partition: m.Partition, Offset: m.Offset,
		ReversePath: r.GetEnvelope().GetReversePath(), Recipients: []RecipientInfo{}, MessageID: r.HeaderMessageId,
		Size: m.Content.Size, SHA256: fmt.Sprintf("%x", m.Content.Sha256),
		Client: s.GetClientIp(), ClientName: s.GetClientName(), HELO: s.GetHelo(), User: s.GetAuthUser(), TLS: s.GetTlsVersion(),
		Edge: s.GetEdge(), Directory: r.Directory,
	}
	if p := s.GetProtocol(); p != pb.Protocol_PROTOCOL_UNSPECIFIED {
		i.Protocol = strings.TrimPrefix(p.String(), "PROTOCOL_") // a number, if a later version wrote it
	}
	for _, to := range m.Recipients {
		i.Recipients = append(i.Recipients, RecipientInfo{to.Number, to.Address})
	}
	return i
}

// NewFiles writes each message to a file ID.eml of a folder that is new or
// empty. A file appears whole or not at all.
func NewFiles(dir string) (Exporter, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	there, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	if len(there) > 0 {
		return nil, fmt.Errorf("export: %s is not empty", dir)
	}
	return files(dir), nil
}

type files string

func (d files) Add(ctx context.Context, m *Message) (err error) {
	// The id is a ULID, checked when it was selected: no path leads out.
	name := filepath.Join(string(d), m.ID()+".eml")
	f, err := os.OpenFile(name+".part", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if err := errors.Join(m.writeTo(ctx, f), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("export %s: %w", m.ID(), unreadable(err))
	}
	return os.Rename(f.Name(), name)
}

func (d files) Close() error {
	f, err := os.Open(string(d))
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	return errors.Join(f.Sync(), f.Close())
}

// writeTo writes the message as it is delivered.
func (m *Message) writeTo(ctx context.Context, w io.Writer) error {
	body, err := m.Open(ctx)
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.Copy(w, body)
	return err
}

// readable fails with ErrUnreadable before anything of a message is written
// where half of it would spoil what is around it.
func (m *Message) readable(ctx context.Context) error {
	body, err := m.OpenContent(ctx)
	if err == nil {
		_, err = io.Copy(io.Discard, body)
		body.Close()
	}
	if err != nil {
		return fmt.Errorf("export %s: %w", m.ID(), unreadable(err))
	}
	return nil
}

// unreadable is ErrUnreadable, too, if the error is that of content.
func unreadable(err error) error {
	if errors.Is(err, bus.ErrContent) {
		return fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	return err
}

// NewMbox writes a mailbox in the mboxrd form (mail.CopyMbox).
func NewMbox(w io.Writer) Exporter { return &mbox{w: bufio.NewWriterSize(w, 64<<10)} }

type mbox struct{ w *bufio.Writer }

func (b *mbox) Add(ctx context.Context, m *Message) error {
	if err := m.readable(ctx); err != nil {
		return err
	}
	if _, err := b.w.WriteString(mail.MboxFrom(m.Received.GetEnvelope().GetReversePath(), m.Accepted)); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	body, err := m.Open(ctx)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := mail.CopyMbox(b.w, bufio.NewReaderSize(body, 64<<10)); err != nil {
		return fmt.Errorf("export %s: %w", m.ID(), err)
	}
	return nil
}

func (b *mbox) Close() error { return b.w.Flush() }

// NewLines writes one line of JSON for each message: its Info and, if whole,
// "content", the message as it is delivered, in base64.
func NewLines(w io.Writer, whole bool) Exporter {
	return &lines{w: bufio.NewWriterSize(w, 64<<10), whole: whole}
}

type lines struct {
	w     *bufio.Writer
	whole bool
}

func (l *lines) Add(ctx context.Context, m *Message) error {
	line, err := json.Marshal(m.Info())
	if err != nil {
		return fmt.Errorf("export %s: %w", m.ID(), err)
	}
	if !l.whole {
		_, err = l.w.Write(append(line, '\n'))
		return err
	}
	if err := m.readable(ctx); err != nil {
		return err
	}
	// The content streams into the object that Info left open.
	if _, err := l.w.Write(append(line[:len(line)-1], `,"content":"`...)); err != nil {
		return err
	}
	encoded := base64.NewEncoder(base64.StdEncoding, l.w)
	if err := errors.Join(m.writeTo(ctx, encoded), encoded.Close()); err != nil {
		return fmt.Errorf("export %s: %w", m.ID(), err)
	}
	_, err = l.w.WriteString("\"}\n")
	return err
}

func (l *lines) Close() error { return l.w.Flush() }
