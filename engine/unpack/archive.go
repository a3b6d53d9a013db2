package unpack

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"qstream/engine"
)

// magics are how formats begin.
var magics = []struct {
	at         int
	with, name string
}{
	{0, "PK\x03\x04", "zip"},
	{0, "PK\x05\x06", "zip"},
	{0, "PK00PK\x03\x04", "zip"},
	{0, "\x1f\x8b\x08", "gzip"},
	{4, "1AY&SY", "bzip2"},
	{0, "\x28\xb5\x2f\xfd", "zstd"},
	{257, "ustar", "tar"},
	{0, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "ole"},
	{0, "\xfd7zXZ\x00", "xz"},
	{0, "7z\xbc\xaf\x27\x1c", "7z"},
	{0, "Rar!\x1a\x07", "rar"},
	{0, "MSCF\x00\x00\x00\x00", "cab"},
	{0, "\x60\xea", "arj"},
	{2, "-lh", "lzh"},
	{7, "**ACE**", "ace"},
	{0, "LZIP\x01", "lzip"},
	{0, "\x1f\x9d", "compress"},
	{0, "\x78\x9f\x3e\x22", "tnef"},
}

// format names what a part begins like; empty: nothing known.
func format(head []byte) string {
	for _, m := range magics {
		if m.at >= len(head) || !bytes.HasPrefix(head[m.at:], []byte(m.with)) {
			continue
		}
		switch m.name { // short magics need a second look
		case "bzip2":
			if !bytes.HasPrefix(head, []byte("BZh")) {
				continue
			}
		case "arj": // the size of its first header, at most 2,600
			if len(head) < 4 || head[3] > 2600>>8 {
				continue
			}
		case "lzh":
			if len(head) < 7 || head[6] != '-' {
				continue
			}
		}
		return m.name
	}
	return ""
}

// mails are the beginnings of messages that are not marked as such.
var mails = []string{"received:", "return-path:", "delivered-to:", "mime-version:", "message-id:", "from ", "from:", "x-"}

// inspect looks into what a spool holds. mail says that it may be a message.
func (w *walk) inspect(s *spool, depth int, mail bool) error {
	head := make([]byte, 512)
	n, err := s.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return engine.Fail(engine.Trouble, "read a part back: %w", err)
	}
	head = head[:n]
	if name := format(head); name != "" {
		return w.open(name, s, depth+1)
	}
	if at, err := s.tail(); err != nil {
		return err
	} else if at {
		return w.open("zip", s, depth+1) // behind something else, such as a program
	}
	if mail {
		for _, m := range mails {
			if n >= len(m) && bytes.EqualFold(head[:len(m)], []byte(m)) {
				return w.message(s.reader(), depth+1)
			}
		}
	}
	return nil
}

// open looks into an archive.
func (w *walk) open(name string, s *spool, depth int) error {
	if err := w.part(depth); err != nil {
		return err
	}
	switch name {
	case "zip":
		return w.zip(s, depth)
	case "gzip":
		return w.gzip(s, depth)
	case "bzip2":
		return w.member(name, bzip2.NewReader(s.reader()), depth)
	case "zstd":
		r := zstdMember(s.reader())
		defer r.Close()
		return w.member(name, r, depth)
	case "tar":
		return w.tar(s, depth)
	case "ole":
		return w.ole(s)
	}
	w.close(engine.NotSupported, "%s", name)
	return nil
}

// tail reports the end of a zip's directory in the last 64 KiB.
func (s *spool) tail() (bool, error) {
	const most = 64<<10 + 22
	buf := make([]byte, min(s.size, most))
	if _, err := s.ReadAt(buf, s.size-int64(len(buf))); err != nil && err != io.EOF {
		return false, engine.Fail(engine.Trouble, "read a part back: %w", err)
	}
	return bytes.Contains(buf, []byte("PK\x05\x06")), nil
}

var errDirectory = errors.New("directory is too long")

// metered reads a zip, and while its directory is being read, no more than the
// limit of parts is worth: the directory is held in memory.
type metered struct {
	s    *spool
	left int64
}

func (m *metered) ReadAt(p []byte, off int64) (int, error) {
	if m.left >= 0 {
		if m.left -= int64(len(p)); m.left < 0 {
			m.left = 0
			return 0, errDirectory
		}
	}
	return m.s.ReadAt(p, off)
}

func (w *walk) zip(s *spool, depth int) error {
	m := &metered{s: s, left: int64(w.cfg.Parts)*256 + 256<<10}
	r, err := zip.NewReader(m, s.size)
	if errors.Is(err, errDirectory) {
		return &limit{engine.TooMany, "a zip's directory is too long"}
	}
	if err != nil {
		w.close(engine.Damaged, "zip: %v", err)
		return nil
	}
	m.left = -1
	if hidden, err := w.hidden(s, r); err != nil {
		return err
	} else if hidden {
		w.close(engine.Damaged, "a zip before the one that is read")
	}
	r.RegisterDecompressor(12, func(r io.Reader) io.ReadCloser { return io.NopCloser(bzip2.NewReader(r)) })
	r.RegisterDecompressor(93, zstdMember)
	for _, f := range r.File {
		if err := w.part(depth); err != nil {
			return err
		}
		if err := w.zipMember(f, depth); err != nil {
			return err
		}
	}
	return nil
}

// hidden reports that what begins like a zip begins with a member that the
// directory at its end doesn't name: two zips in one, of which other readers may
// open the first.
func (w *walk) hidden(s *spool, r *zip.Reader) (bool, error) {
	var head [30]byte
	n, err := s.ReadAt(head[:], 0)
	if err != nil && err != io.EOF {
		return false, engine.Fail(engine.Trouble, "read a part back: %w", err)
	}
	if n < len(head) || !bytes.HasPrefix(head[:], []byte("PK\x03\x04")) {
		return false, nil
	}
	data := int64(len(head)) + int64(binary.LittleEndian.Uint16(head[26:])) + int64(binary.LittleEndian.Uint16(head[28:]))
	for _, f := range r.File {
		if at, err := f.DataOffset(); err == nil && at == data {
			return false, nil
		}
		if err := w.tick(); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (w *walk) zipMember(f *zip.File, depth int) error {
	const encrypted, aes = 1, 99
	if f.Flags&encrypted != 0 || f.Method == aes {
		w.lock(engine.Archive, "zip: %s", f.Name)
		return nil
	}
	r, err := f.Open()
	if errors.Is(err, zip.ErrAlgorithm) {
		w.close(engine.NotSupported, "zip: %s has method %d", f.Name, f.Method)
		return nil
	}
	if err != nil {
		w.close(engine.Damaged, "zip: %s: %v", f.Name, err)
		return nil
	}
	defer r.Close()
	return w.member("zip: "+f.Name, r, depth)
}

// zstdLimits keep a frame's window, which is held in memory, small.
var zstdLimits = []zstd.DOption{zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
	zstd.WithDecoderMaxWindow(16 << 20), zstd.WithDecoderMaxMemory(32 << 20)}

func zstdMember(r io.Reader) io.ReadCloser {
	d, err := zstd.NewReader(r, zstdLimits...)
	if err != nil {
		return io.NopCloser(failing{err})
	}
	return d.IOReadCloser()
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func (w *walk) gzip(s *spool, depth int) error {
	r, err := gzip.NewReader(s.reader())
	if err != nil {
		w.close(engine.Damaged, "gzip: %v", err)
		return nil
	}
	return w.member("gzip", r, depth)
}

func (w *walk) tar(s *spool, depth int) error {
	r := tar.NewReader(s.reader())
	for {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			w.close(engine.Damaged, "tar: %v", err)
			return nil
		}
		if err := w.part(depth); err != nil {
			return err
		}
		if err := w.member(fmt.Sprintf("tar: %s", h.Name), r, depth); err != nil {
			return err
		}
	}
}

// ole looks for the one stream of a document's container that says it is
// encrypted ([MS-OFFCRYPTO] 2.3.4).
func (w *walk) ole(s *spool) error {
	var name []byte
	for _, c := range []byte("EncryptedPackage") {
		name = append(name, c, 0)
	}
	buf := make([]byte, 64<<10)
	for at := int64(0); at < s.size; at += int64(len(buf) - len(name)) {
		n, err := s.ReadAt(buf, at)
		if err != nil && err != io.EOF {
			return engine.Fail(engine.Trouble, "read a part back: %w", err)
		}
		if bytes.Contains(buf[:n], name) {
			w.lock(engine.Archive, "a document")
			return nil
		}
	}
	return w.tick()
}
