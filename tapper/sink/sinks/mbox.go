package sinks

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"qstream/mail"
	"qstream/tapper/sink"
)

// mboxSink appends copies to a mailbox file in the mboxrd form. Beside the
// file, PATH.qstream notes where the last copy begins and whether it is whole,
// so that what a crash left of one is cut off, and the last one is known when
// it is repeated; an earlier one is recognised by its X-Qstream-Copy. Nobody
// else may write to the file.
type mboxSink struct {
	path, me string
	form     sink.Form

	mu   sync.Mutex
	note mboxNote
	read bool
}

// mboxNote is the last copy: Begin is where it stands, Whole that its end is on
// the disk.
type mboxNote struct {
	ID    string `json:"id"`
	Begin int64  `json:"begin"`
	End   int64  `json:"end"`
	Whole bool   `json:"whole"`
}

func newMbox(spec sink.Spec, d sink.Deps) *mboxSink {
	return &mboxSink{path: spec.Path, me: d.Me, form: sink.Form(spec.Option("form"))}
}

func (s *mboxSink) Put(ctx context.Context, c sink.Copy) error {
	m, err := sink.Mail(ctx, &c, s.form, s.me)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.mend(); err != nil {
		return fmt.Errorf("mend mailbox: %w", err)
	}
	if s.note.Whole && s.note.ID == c.ID {
		return nil
	}
	if err := s.add(ctx, &c, m); err != nil {
		return fmt.Errorf("write mailbox: %w", err)
	}
	return nil
}

// mend reads the note and cuts off what isn't whole.
func (s *mboxSink) mend() error {
	if !s.read {
		if err := os.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
			return err
		}
		text, err := os.ReadFile(s.path + ".qstream")
		switch {
		case err == nil && json.Unmarshal(text, &s.note) != nil:
			return fmt.Errorf("%s.qstream is not what was written", s.path)
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return err
		}
		s.read = true
	}
	if s.note.Whole || s.note.ID == "" {
		return nil
	}
	if err := s.cut(); err != nil {
		return err
	}
	s.note = mboxNote{Whole: true, Begin: s.note.Begin, End: s.note.Begin}
	return s.save()
}

// cut removes the copy that was being written. What stands there must be its:
// anything else was written by somebody.
func (s *mboxSink) cut() error {
	f, err := os.OpenFile(s.path, os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	head := make([]byte, mboxHead)
	n, err := f.ReadAt(head, s.note.Begin)
	if err != nil && err != io.EOF {
		return err
	}
	if n == 0 {
		return nil
	}
	ours, zeros := s.torn(string(head[:n]))
	if ours && zeros >= 0 {
		ours, err = onlyZeros(f, s.note.Begin+int64(zeros))
		if err != nil {
			return err
		}
	}
	if !ours {
		return fmt.Errorf("%s: somebody wrote behind octet %d", s.path, s.note.Begin)
	}
	return errors.Join(f.Truncate(s.note.Begin), f.Sync())
}

// torn reports whether text, which isn't empty, begins like what a crash may
// leave of the copy that was being written: any number of its octets, and after
// a loss of power zeros for those that never reached the disk. Where its header
// would have come to the end it names the copy. If zeros isn't negative the
// copy's octets end there, and nothing else may stand behind.
func (s *mboxSink) torn(text string) (ours bool, zeros int) {
	const first = "From "
	text, _, lost := strings.Cut(text, "\x00")
	begun := min(len(text), len(first))
	if text[:begun] != first[:begun] {
		return false, -1
	}
	header, _, complete := strings.Cut(text, "\n\n")
	switch {
	case !complete && lost:
		return true, len(text)
	case !complete && len(text) < mboxHead:
		return true, -1
	}
	return strings.Contains(header+"\n", "\nX-Qstream-Copy: "+s.note.ID+"\n"), -1
}

// onlyZeros reports whether a file has nothing else from an offset on.
func onlyZeros(f io.ReaderAt, from int64) (bool, error) {
	page := make([]byte, 64<<10)
	for {
		n, err := f.ReadAt(page, from)
		if len(bytes.Trim(page[:n], "\x00")) > 0 {
			return false, nil
		}
		if err == io.EOF {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		from += int64(n)
	}
}

// mboxHead are octets within which a copy's header names it.
const mboxHead = 4096

// add writes one copy, between two notes.
func (s *mboxSink) add(ctx context.Context, c *sink.Copy, m *sink.Message) error {
	f, err := os.OpenFile(s.path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	begin, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	s.note = mboxNote{ID: c.ID, Begin: begin}
	if err := s.save(); err != nil {
		return err
	}
	if err := s.fill(ctx, f, c, m); err != nil {
		return errors.Join(err, s.mend())
	}
	end, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	s.note.End, s.note.Whole = end, true
	if err := s.save(); err != nil {
		s.note.Whole = false
		return err
	}
	return nil
}

func (s *mboxSink) fill(ctx context.Context, f *os.File, c *sink.Copy, m *sink.Message) error {
	content, err := m.Open(ctx)
	if err != nil {
		return err
	}
	defer content.Close()
	w := bufio.NewWriterSize(f, 64<<10)
	if _, err := w.WriteString(mail.MboxFrom(c.Received.GetEnvelope().GetReversePath(), c.Accepted)); err != nil {
		return err
	}
	if err := mail.CopyMbox(w, bufio.NewReaderSize(within(ctx, content), 64<<10)); err != nil {
		return err
	}
	return errors.Join(w.Flush(), f.Sync())
}

// save writes the note durably, whole or not at all.
func (s *mboxSink) save() error {
	text, err := json.Marshal(s.note)
	if err != nil {
		return err
	}
	return writeWhole(s.path+".qstream", text)
}

func (*mboxSink) Close() error { return nil }
