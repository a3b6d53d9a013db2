// Package maildir is the transport that delivers into a Maildir: one file per
// recipient, lines ended by LF as Maildirs have them, with Return-Path and
// Delivered-To on top.
//
// Guarantee: a recipient is delivered when its file and the folder's entry are
// on the disk (fsync of both).
// Guarantee: a repeated attempt of the same leg makes no second file: a
// file's name comes from message id, leg and recipient, and a file of that
// name in new or cur counts as delivered, whatever flags a reader gave it. A
// reader who has moved or removed it meanwhile gets another.
//
// Folders that don't exist are made, readable by the owner only. It does no
// quota, no subfolders and no filtering.
package maildir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
	"qstream/transport"
)

// Maildir delivers into the folder that a target's Path names.
type Maildir struct {
	attempts atomic.Uint64 // makes names in tmp unique in this process
	pid      int
}

var _ transport.Transport = (*Maildir)(nil)

// New opens nothing.
func New() *Maildir { return &Maildir{pid: os.Getpid()} }

// Close has nothing to close.
func (*Maildir) Close() error { return nil }

// delivered is the outcome of a recipient whose file is in place.
var delivered = transport.Outcome{
	Kind:   transport.Decided,
	At:     transport.AtFile,
	Status: mail.Status{Code: 250, Enhanced: "2.0.0", Text: "delivered to the mailbox"},
}

// Deliver writes a file for each recipient. See transport.Transport.
func (m *Maildir) Deliver(ctx context.Context, t transport.Target, a *transport.Attempt) transport.Result {
	r := transport.Result{Outcomes: make([]transport.Outcome, len(a.Recipients))}
	d := delivery{m: m, folder: t.Path, a: a, number: m.attempts.Add(1)}
	err := d.run(ctx, r.Outcomes)
	for i, o := range r.Outcomes {
		if o.Status.OK() {
			r.Sent = true
			continue
		}
		r.Outcomes[i] = outcome(err)
	}
	return r
}

// errCut is an attempt that was revoked before files got their names.
var errCut = errors.New("attempt cut short by the sending side")

// outcome says what an error means; all are temporary, since a full or broken
// disk says nothing about the recipient.
func outcome(err error) transport.Outcome {
	o := transport.Outcome{Kind: transport.Failed, At: transport.AtFile}
	var path *fs.PathError
	var link *os.LinkError
	cause := err
	switch { // no local paths in texts that senders may see
	case errors.As(err, &path):
		cause = path.Err
	case errors.As(err, &link):
		cause = link.Err
	}
	switch {
	case errors.Is(err, errCut), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		o.Kind = transport.Cut
		o.Status = mail.Status{Code: 451, Enhanced: "4.3.2", Text: errCut.Error()}
	case errors.Is(err, errContent):
		o.At = transport.AtContent
		o.Status = mail.Status{Code: 451, Enhanced: "4.3.0", Text: errContent.Error()}
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		o.Status = mail.Status{Code: 452, Enhanced: "4.3.1", Text: "mailbox: " + cause.Error()}
	default:
		o.Status = mail.Status{Code: 451, Enhanced: "4.3.0", Text: "mailbox: " + cause.Error()}
	}
	return o
}

// delivery is one attempt under way.
type delivery struct {
	m      *Maildir
	folder string
	a      *transport.Attempt
	number uint64
	files  []file
}

// file is one recipient's, in tmp until it is whole.
type file struct {
	index int // of the recipient
	name  string
	tmp   string
	f     *os.File
}

// run fills in the outcomes of those delivered; the error is for the others.
func (d *delivery) run(ctx context.Context, out []transport.Outcome) error {
	if d.folder == "" {
		return errors.New("no folder")
	}
	if err := makeFolder(d.folder); err != nil {
		return err
	}
	present, err := d.present()
	if err != nil {
		return err
	}
	defer d.discard()
	for i, r := range d.a.Recipients {
		name := d.name(r)
		if present[name] {
			out[i] = delivered
			continue
		}
		if err := d.create(i, name, r); err != nil {
			return err
		}
	}
	if len(d.files) == 0 {
		return nil
	}
	if err := d.fill(ctx); err != nil {
		return err
	}
	return d.place(ctx, out)
}

// name is the same for every attempt of a leg: seconds of the message's id,
// then what is unique, as maildir(5) has it.
func (d *delivery) name(r *pb.Recipient) string {
	made, ok := mail.IDTime(d.a.MessageID)
	if !ok {
		made = time.Unix(0, 0)
	}
	id := strings.Map(func(c rune) rune {
		if c == '/' || c == ':' || c == '.' || c <= ' ' {
			return '_'
		}
		return c
	}, d.a.MessageID)
	return fmt.Sprintf("%d.%s-%d-%d.qstream", made.Unix(), id, d.a.Leg, r.GetNumber())
}

// present are the names of this message that are there already. In cur they
// carry flags, so all names have to be read there; in new, where a flood piles
// up, they stand as we made them.
func (d *delivery) present() (map[string]bool, error) {
	found, wanted := map[string]bool{}, map[string]bool{}
	for _, r := range d.a.Recipients {
		name := d.name(r)
		wanted[name] = true
		if _, err := os.Lstat(filepath.Join(d.folder, "new", name)); err == nil {
			found[name] = true
		}
	}
	cur, err := os.Open(filepath.Join(d.folder, "cur"))
	if err != nil {
		return nil, err
	}
	defer cur.Close()
	for {
		names, err := cur.Readdirnames(1024)
		for _, name := range names {
			if base, _, _ := strings.Cut(name, ":"); wanted[base] {
				found[base] = true
			}
		}
		if err == io.EOF {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// create opens a recipient's file and writes its own lines.
func (d *delivery) create(index int, name string, r *pb.Recipient) error {
	tmp := filepath.Join(d.folder, "tmp", fmt.Sprintf("%s.%d.%d", name, d.m.pid, d.number))
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	d.files = append(d.files, file{index, name, tmp, f})
	_, err = fmt.Fprintf(f, "Return-Path: <%s>\nDelivered-To: %s\n",
		mail.Printable(d.a.ReversePath), mail.Printable(r.GetAddress()))
	return err
}

// discard removes what is left in tmp.
func (d *delivery) discard() {
	for _, f := range d.files {
		_ = f.f.Close()
		_ = os.Remove(f.tmp)
	}
}
