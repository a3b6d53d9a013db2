package maildir_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
	"qstream/transport"
	"qstream/transport/maildir"
)

func attempt(content string) *transport.Attempt {
	return &transport.Attempt{
		MessageID: mail.NewID(time.Unix(1700000000, 0)), Leg: 3, ReversePath: "a@sender.example",
		Prepend: []byte("Received: here\r\n"), Size: int64(len(content)),
		Recipients: []*pb.Recipient{{Number: 0, Address: "b@acme.example"}, {Number: 4, Address: "c@acme.example"}},
		Content: func(context.Context) (io.ReadCloser, error) {
			// One byte at a time: CR and LF come in different reads.
			return io.NopCloser(iotest.OneByteReader(strings.NewReader(content))), nil
		},
	}
}

func files(t *testing.T, folder string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(folder, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestOneFilePerRecipient(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "deep", "inbox")
	m := maildir.New()
	a := attempt("Subject: x\r\n\r\none\r\n.two\r\n")
	r := m.Deliver(t.Context(), transport.Target{Path: folder}, a)
	if !r.Delivered() || !r.Sent {
		t.Fatalf("%+v", r)
	}
	got := files(t, folder+"/new")
	if len(got) != 2 || len(files(t, folder+"/tmp")) != 0 {
		t.Fatalf("files: %v", got)
	}
	text, err := os.ReadFile(got[1])
	if err != nil {
		t.Fatal(err)
	}
	want := "Return-Path: <a@sender.example>\nDelivered-To: c@acme.example\nReceived: here\nSubject: x\n\none\n.two\n"
	if string(text) != want {
		t.Errorf("got %q, want %q", text, want)
	}
}

func TestRepeatedAttemptMakesNoSecondFile(t *testing.T) {
	folder := t.TempDir()
	m := maildir.New()
	a := attempt("x\r\n")
	m.Deliver(t.Context(), transport.Target{Path: folder}, a)
	// A reader takes one of them over and marks it as seen.
	first := files(t, folder+"/new")[0]
	if err := os.Rename(first, filepath.Join(folder, "cur", filepath.Base(first)+":2,S")); err != nil {
		t.Fatal(err)
	}
	r := maildir.New().Deliver(t.Context(), transport.Target{Path: folder}, a)
	if !r.Delivered() {
		t.Fatalf("%+v", r)
	}
	if n := len(files(t, folder+"/new")) + len(files(t, folder+"/cur")); n != 2 {
		t.Errorf("%d files after the second attempt, want 2", n)
	}
	a.Leg = 4
	m.Deliver(t.Context(), transport.Target{Path: folder}, a)
	if n := len(files(t, folder+"/new")); n != 3 {
		t.Errorf("%d new files after another leg, want 3", n)
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	revoked, revoke := context.WithCancel(t.Context())
	revoke()
	for name, c := range map[string]struct {
		change func(*transport.Attempt)
		kind   transport.Kind
		code   int
	}{
		"content fails at its end": {func(a *transport.Attempt) {
			a.Content = func(context.Context) (io.ReadCloser, error) {
				return io.NopCloser(io.MultiReader(strings.NewReader("x\r\n"), iotest.ErrReader(errors.New("wrong hash")))), nil
			}
		}, transport.Failed, 451},
		"content can't be opened": {func(a *transport.Attempt) {
			a.Content = func(context.Context) (io.ReadCloser, error) { return nil, errors.New("no such offset") }
		}, transport.Failed, 451},
		"revoked": {func(a *transport.Attempt) { a.Revoked = revoked }, transport.Cut, 451},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			a := attempt("x\r\n")
			c.change(a)
			r := maildir.New().Deliver(t.Context(), transport.Target{Path: folder}, a)
			for _, o := range r.Outcomes {
				if o.Kind != c.kind || o.Status.Code != c.code {
					t.Errorf("outcome %+v", o)
				}
			}
			if r.Sent || len(files(t, folder+"/new"))+len(files(t, folder+"/tmp")) != 0 {
				t.Error("files were left")
			}
		})
	}
}

func TestFolderThatCantBe(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := maildir.New().Deliver(t.Context(), transport.Target{Path: file}, attempt("x\r\n"))
	o := r.Outcomes[0]
	if o.Kind != transport.Failed || !o.Status.Temporary() || strings.Contains(o.Status.Text, file) {
		t.Errorf("outcome %+v", o)
	}
}
