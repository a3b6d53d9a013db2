package deliver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
	"qstream/transport"
)

// maxEdited is the longest header of which fields are changed or deleted; to a
// longer one fields are only added, in front.
const maxEdited = 1 << 20

// editKinds are the changes that a record may ask for.
var editKinds = map[pb.ChangeKind]mail.EditKind{
	pb.ChangeKind_CHANGE_KIND_ADD:     mail.EditAdd,
	pb.ChangeKind_CHANGE_KIND_INSERT:  mail.EditInsert,
	pb.ChangeKind_CHANGE_KIND_REPLACE: mail.EditReplace,
	pb.ChangeKind_CHANGE_KIND_DELETE:  mail.EditDelete,
	pb.ChangeKind_CHANGE_KIND_PREFIX:  mail.EditPrefix,
}

// edit makes the changes that scanning asked for: the attempt's prepended
// lines become the whole header, and its content what follows. The content is
// stored unchanged.
func (d *Deliverer) edit(ctx context.Context, l *pb.Leg, a *transport.Attempt) error {
	edits := editsOf(l.GetScan().GetChanges())
	if len(edits) == 0 {
		return nil
	}
	open := a.Content
	r, err := open(ctx)
	if err != nil {
		return err
	}
	header, err := mail.ReadHeader(r, maxEdited)
	_ = r.Close()
	if errors.Is(err, mail.ErrLongHeader) {
		edits = slices.DeleteFunc(edits, func(e mail.Edit) bool { return e.Kind != mail.EditAdd && e.Kind != mail.EditInsert })
		header, err = nil, nil
	}
	if err != nil {
		return fmt.Errorf("read the header to be changed: %w", err)
	}
	a.Prepend = mail.EditHeader(slices.Concat(a.Prepend, header), edits)
	a.Size -= int64(len(header))
	a.Content = func(ctx context.Context) (io.ReadCloser, error) {
		r, err := open(ctx)
		if err != nil {
			return nil, err
		}
		if _, err := io.CopyN(io.Discard, r, int64(len(header))); err != nil {
			return nil, errors.Join(fmt.Errorf("read past the header: %w", err), r.Close())
		}
		return r, nil
	}
	return nil
}

func editsOf(changes []*pb.HeaderChange) []mail.Edit {
	var edits []mail.Edit
	for _, c := range changes {
		if kind, ok := editKinds[c.Kind]; ok {
			edits = append(edits, mail.Edit{Kind: kind, Index: int(c.Index), Name: c.Name, Value: string(c.Value)})
		}
	}
	return edits
}

// scanned reports whether what a report carries of a leg's content needs no
// scanning again.
func scanned(l *pb.Leg) bool {
	s := l.GetScan().GetState()
	return s == pb.ScanState_SCAN_STATE_DONE || s == pb.ScanState_SCAN_STATE_EXEMPT
}

// suspicious reports whether scanning found something in a leg's content: then
// no report carries more than its header.
func suspicious(l *pb.Leg) bool { return l.GetScan().GetFinding() != "" }
