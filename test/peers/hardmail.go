package peers

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"encoding/base64"
	"io"
	"math/rand/v2"
	"strings"

	"qstream/engine"
)

// HardMail is a message that is built to slip through or to do harm, with the
// right word for it.
type HardMail struct {
	Write   func(io.Writer) error
	Outcome engine.Outcome
	Reason  engine.Reason // 0: any
}

// HardMails are all of them by name. Clamd and unpack, with limits of 100 MB
// for a member and 400 MB in all, find together what is to be found.
func HardMails() map[string]HardMail {
	text := func(s string) func(io.Writer) error {
		return func(w io.Writer) error { _, err := io.WriteString(w, s); return err }
	}
	attached := func(b []byte) func(io.Writer) error { return text(Carrying(b)) }
	eicar := []byte(EICAR)
	forwarded := Carrying(eicar)
	for range 5 {
		forwarded = "From: b@client.example\r\nMIME-Version: 1.0\r\nContent-Type: message/rfc822\r\n\r\n" + forwarded
	}
	cyclic := "MIME-Version: 1.0\r\n" + strings.Repeat("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n", 10_000)
	parts := "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" +
		strings.Repeat("--b\r\nContent-Type: text/plain\r\n\r\ntext\r\n", 10_001) + "--b--\r\n"
	random := make([]byte, 50<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(random)
	return map[string]HardMail{
		"harmless":  {attached([]byte("nothing here")), engine.Clean, 0},
		"plain":     {text("Subject: x\r\n\r\n" + EICAR + "\r\n"), engine.Malware, 0},
		"base64":    {attached(eicar), engine.Malware, 0},
		"zips":      {attached(zipped(zip.FileHeader{Method: zip.Deflate}, zipped(zip.FileHeader{Method: zip.Deflate}, eicar))), engine.Malware, 0},
		"forwarded": {text(forwarded), engine.Malware, 0},
		"bomb":      {attached(bomb()), engine.Unscannable, engine.TooLarge},
		"large":     {attached(random), engine.Clean, 0},
		"large-bad": {attached(append(bytes.Clone(random), eicar...)), engine.Malware, 0},
		"encrypted": {attached(zipped(zip.FileHeader{Method: zip.Store, Flags: 1}, []byte("012345678901 secret"))), engine.Encrypted, engine.Archive},
		"cyclic":    {text(cyclic), engine.Unscannable, 0},
		"parts":     {text(parts), engine.Unscannable, engine.TooMany},
	}
}

// Carrying is a message with an attachment.
func Carrying(b []byte) string {
	coded := base64.StdEncoding.EncodeToString(b)
	var lines strings.Builder
	lines.Grow(len(coded) + len(coded)/38 + 400)
	lines.WriteString("From: a@client.example\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\ntext\r\n" +
		"--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n")
	for len(coded) > 0 {
		n := min(76, len(coded))
		lines.WriteString(coded[:n] + "\r\n")
		coded = coded[n:]
	}
	lines.WriteString("--b--\r\n")
	return lines.String()
}

// zipped is a zip with one member as its header says; Deflate compresses it.
func zipped(h zip.FileHeader, content []byte) []byte {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	h.Name = "inside"
	if h.Method == zip.Deflate && h.UncompressedSize64 == 0 {
		f, _ := w.CreateHeader(&h)
		_, _ = f.Write(content)
	} else {
		h.CompressedSize64 = uint64(len(content))
		h.UncompressedSize64 = max(h.UncompressedSize64, uint64(len(content)))
		f, _ := w.CreateRaw(&h)
		_, _ = f.Write(content)
	}
	_ = w.Close()
	return b.Bytes()
}

// bomb is a zip of 10 GB of zeros: blocks that each end on a byte.
func bomb() []byte {
	var block bytes.Buffer
	w, _ := flate.NewWriter(&block, 9)
	_, _ = w.Write(make([]byte, 32<<20))
	_ = w.Flush()
	return zipped(zip.FileHeader{Method: zip.Deflate, UncompressedSize64: 320 * 32 << 20}, bytes.Repeat(block.Bytes(), 320))
}
