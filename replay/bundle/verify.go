package bundle

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"qstream/mail"
	"qstream/replay"
	"qstream/schemas"
	"qstream/schemas/chain"
	pb "qstream/schemas/qstream/v1"
)

// ErrFalse says that a bundle is not what was written.
var ErrFalse = errors.New("the bundle is not what its maker wrote")

// Bounds of what a hostile bundle makes Verify hold in memory.
const (
	maxManifest = 1 << 30
	maxRecord   = 4 << 20
	maxLine     = 16 << 20
)

// Keys are whose signatures a bundle must have; nil takes any.
type Keys struct {
	Maker       ed25519.PublicKey // the bundle's
	Checkpoints ed25519.PublicKey // the chain of custody's
}

// Result is what Verify found.
type Result struct {
	Manifest    Manifest
	Fingerprint string   // of the key that signed
	Checkpoints []string // of the keys that signed checkpoints
}

func falsef(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrFalse, fmt.Errorf(format, args...))
}

// Verify reads a bundle to its end. Where no key is given it takes the one that
// the bundle names, which proves only that nobody without that key changed it. Errors that wrap ErrFalse say what is wrong; others are
// of reading.
func Verify(r io.Reader, keys Keys) (*Result, error) {
	whole, again := sha256.New(), sha256.New()
	in := &reading{r: bufio.NewReaderSize(r, 64<<10)}
	tee := io.TeeReader(in, whole)
	v := &verifier{messages: map[string]*message{}, out: tar.NewWriter(again), proofs: newProofs()}
	entries := tar.NewReader(tee)
	for {
		h, err := entries.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, in.or(falsef("no archive: %w", err))
		}
		if err := v.entry(h, entries); err != nil {
			return nil, in.or(err)
		}
	}
	if _, err := io.Copy(io.Discard, tee); err != nil {
		return nil, err
	}
	if err := v.out.Close(); err != nil {
		return nil, falsef("end of the archive: %w", err)
	}
	res, err := v.signed(keys.Maker)
	if err != nil {
		return nil, err
	}
	// Padding, flags, times and owners are in no hash of a file: the archive
	// that has these files must be this one.
	if !bytes.Equal(whole.Sum(nil), again.Sum(nil)) {
		return nil, falsef("the archive around the files was changed")
	}
	if err := v.complete(&res.Manifest, keys.Checkpoints); err != nil {
		return nil, err
	}
	for key := range v.keys {
		res.Checkpoints = append(res.Checkpoints, key)
	}
	slices.Sort(res.Checkpoints)
	return res, v.agree()
}

// reading tells errors of the file from errors of what is in it.
type reading struct {
	r   io.Reader
	err error
}

func (r *reading) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

func (r *reading) or(err error) error {
	if r.err != nil {
		return r.err
	}
	return err
}

// message is what is checked of one: hashes of its content, by the part that
// tells it; empty: that part is missing.
type message struct {
	info    string
	record  string
	inline  string // of the content that the record carries, if it does
	content string // of content/ID.eml

	// What the record says, so that the description can't say anything else.
	described chain.Hash
	to        map[chain.Hash]bool
}

// described is a hash of what a description says of a message beside its place
// and its recipients: in the fields that the format began with, since a bundle
// is checked by later versions, too.
func described(i replay.Info) chain.Hash {
	return sha256.Sum256(fmt.Appendf(nil, "%q %q %d %q %q %q %q %q %q %q %q %d", i.ID, i.ReversePath, i.Size, i.SHA256, i.MessageID,
		i.Protocol, i.Client, i.ClientName, i.HELO, i.User, i.TLS+"\x00"+i.Edge, i.Directory))
}

func addressed(to replay.RecipientInfo) chain.Hash {
	return sha256.Sum256(fmt.Appendf(nil, "%d %s", to.Number, to.Address))
}

type verifier struct {
	out      *tar.Writer
	files    []File
	messages map[string]*message
	about    map[string]bool // whom events are about
	events   int
	proofs
	manifest  []byte
	signature []byte
}

// entry takes a file, and writes it again.
func (v *verifier) entry(h *tar.Header, r io.Reader) error {
	name := h.Name
	// A sparse file, whose size is made up, would be read for ever; only later
	// formats have them.
	if h.Typeflag != tar.TypeReg || h.Size < 0 || h.Format != tar.FormatUSTAR {
		return falsef("%s is no plain file", mail.Printable(name))
	}
	if v.signature != nil || v.manifest != nil && name != signName {
		return falsef("%s stands behind the manifest", mail.Printable(name))
	}
	if err := v.out.WriteHeader(header(name, h.Size)); err != nil {
		return falsef("%s: %w", mail.Printable(name), err)
	}
	sum := sha256.New()
	if err := v.read(name, h.Size, io.TeeReader(r, io.MultiWriter(sum, v.out))); err != nil {
		return err
	}
	f := File{name, h.Size, fmt.Sprintf("%x", sum.Sum(nil))}
	if id, ok := between(name, "content/", ".eml"); ok {
		v.message(id).content = f.SHA256
	}
	if name != manifestName && name != signName {
		v.files = append(v.files, f)
	}
	return nil
}

// read takes what is in a file, all of it.
func (v *verifier) read(name string, size int64, r io.Reader) error {
	id, isRecord := between(name, "received/", ".record")
	_, isContent := between(name, "content/", ".eml")
	var err error
	switch {
	case isRecord && size <= maxRecord:
		err = v.record(id, r)
	case isContent, name == readmeName:
	case name == messagesName:
		err = eachLine(r, v.info)
	case name == eventsName:
		err = eachLine(r, v.event)
	case name == checkpointsName:
		err = eachLine(r, v.checkpoint)
	case name == proofsName:
		err = eachLine(r, v.proof)
	case name == manifestName && size <= maxManifest:
		v.manifest, err = all(r)
	case name == signName && size == ed25519.SignatureSize:
		v.signature, err = all(r)
	default:
		return falsef("%s of %d bytes has no place here", mail.Printable(name), size)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", mail.Printable(name), err)
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return falsef("%s: %w", mail.Printable(name), err)
	}
	return nil
}

func (v *verifier) message(id string) *message {
	m := v.messages[id]
	if m == nil {
		m = &message{}
		v.messages[id] = m
	}
	return m
}

func (v *verifier) record(id string, r io.Reader) error {
	value, err := all(r)
	if err != nil {
		return err
	}
	var p pb.Received
	if err := proto.Unmarshal(schemas.WithoutInline(schemas.Received, value), &p); err != nil {
		return falsef("no received record: %w", err)
	}
	if p.Id != id {
		return falsef("the record is of message %s", mail.Printable(p.Id))
	}
	v.records[id] = sha256.Sum256(value)
	m := v.message(id)
	told := &replay.Message{Received: &p, Content: &pb.ContentRef{Size: p.GetContent().GetSize(), Sha256: p.GetContent().GetSha256()}}
	m.described, m.to = described(told.Info()), map[chain.Hash]bool{}
	for _, to := range p.GetEnvelope().GetRecipients() {
		m.to[addressed(replay.RecipientInfo{Number: to.Number, Address: to.Address})] = true
	}
	m.record = fmt.Sprintf("%x", p.GetContent().GetSha256())
	if carried, err := schemas.Inline(schemas.Received, value); err == nil && carried.Inline != nil {
		m.inline = fmt.Sprintf("%x", sha256.Sum256(carried.Inline))
	}
	return nil
}

func (v *verifier) info(line []byte) error {
	var i replay.Info
	if err := json.Unmarshal(line, &i); err != nil {
		return falsef("%w", err)
	}
	m := v.message(i.ID)
	if m.info != "" {
		return falsef("message %s is described twice", mail.Printable(i.ID))
	}
	if m.record == "" || m.described != described(i) || slices.ContainsFunc(i.Recipients, func(to replay.RecipientInfo) bool { return !m.to[addressed(to)] }) {
		return falsef("message %s: the description isn't what the record says", mail.Printable(i.ID))
	}
	m.info = i.SHA256
	v.stands(i.Topic, i.Partition, i.Offset, i.Accepted, v.records[i.ID])
	return nil
}

func (v *verifier) event(line []byte) error {
	var p Placed
	if err := json.Unmarshal(line, &p); err != nil {
		return falsef("%w", err)
	}
	var e pb.Event
	if err := proto.Unmarshal(p.Value, &e); err != nil {
		return falsef("no event: %w", err)
	}
	if v.about == nil {
		v.about = map[string]bool{}
	}
	about := e.MessageId
	if schemas.Generated(e.Origin) {
		about = e.ParentId
	}
	v.about[about] = true
	v.events++
	v.stands(p.Topic, p.Partition, p.Offset, p.Appended, sha256.Sum256(p.Value))
	return nil
}

// signed checks manifest and signature against what was read.
func (v *verifier) signed(key ed25519.PublicKey) (*Result, error) {
	if v.manifest == nil || v.signature == nil {
		return nil, falsef("manifest or signature is missing")
	}
	var res Result
	if err := json.Unmarshal(v.manifest, &res.Manifest); err != nil {
		return nil, falsef("manifest: %w", err)
	}
	m := &res.Manifest
	switch {
	case m.Format != Format:
		return nil, falsef("format %s, want %s", mail.Printable(m.Format), Format)
	case len(m.Key) != ed25519.PublicKeySize:
		return nil, falsef("no key in the manifest")
	case key != nil && !bytes.Equal(key, m.Key):
		return nil, falsef("signed by key %s, not by the one wanted, %s", Fingerprint(m.Key), Fingerprint(key))
	case !ed25519.Verify(m.Key, v.manifest, v.signature):
		return nil, falsef("the signature isn't of this manifest")
	case !slices.Equal(m.Files, v.files):
		return nil, falsef("%s", v.difference(m.Files))
	case m.Messages != len(v.messages) || m.Events != v.events:
		return nil, falsef("%d messages and %d events, the manifest tells of %d and %d", len(v.messages), v.events, m.Messages, m.Events)
	}
	res.Fingerprint = Fingerprint(m.Key)
	return &res, nil
}

// difference names the first file that isn't as the manifest says.
func (v *verifier) difference(want []File) string {
	for i, f := range v.files {
		switch {
		case i >= len(want):
			return mail.Printable(f.Name) + " is not in the manifest"
		case f.Name != want[i].Name:
			return fmt.Sprintf("%s stands where the manifest has %s", mail.Printable(f.Name), mail.Printable(want[i].Name))
		case f != want[i]:
			return mail.Printable(f.Name) + " was changed"
		}
	}
	return mail.Printable(want[len(v.files)].Name) + " is missing"
}

// agree checks that the parts tell the same story.
func (v *verifier) agree() error {
	for id, m := range v.messages {
		switch {
		case m.record == "" || m.info == "" || m.content == "":
			return falsef("message %s: record, description or content is missing", mail.Printable(id))
		case m.record != m.content, m.info != m.content:
			return falsef("message %s: the content isn't the one that was accepted", mail.Printable(id))
		case m.inline != "" && m.inline != m.content:
			return falsef("message %s: the record carries other content", mail.Printable(id))
		}
	}
	for id := range v.about {
		if v.messages[id] == nil {
			return falsef("events about message %s, which isn't here", mail.Printable(id))
		}
	}
	return nil
}

// eachLine calls each for the lines of r; the last must be ended, too.
func eachLine(r io.Reader, each func([]byte) error) error {
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxLine)
	for s.Scan() {
		if err := each(s.Bytes()); err != nil {
			return err
		}
	}
	if err := s.Err(); err != nil {
		return falsef("%w", err)
	}
	return nil
}

// all reads a file whose size is within bounds.
func all(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, falsef("%w", err)
	}
	return data, nil
}

func between(name, before, after string) (string, bool) {
	rest, ok := strings.CutPrefix(name, before)
	id, ok2 := strings.CutSuffix(rest, after)
	return id, ok && ok2 && !strings.ContainsAny(id, "/\\")
}
