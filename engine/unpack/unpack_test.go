package unpack_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/klauspost/compress/zstd"

	"qstream/engine"
	"qstream/engine/enginetest"
	"qstream/engine/unpack"
)

func zipped(name string, content []byte) []byte {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	f, _ := w.Create(name)
	_, _ = f.Write(content)
	_ = w.Close()
	return b.Bytes()
}

// raw makes a zip with one member as it says.
func raw(h zip.FileHeader, content []byte) []byte {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	h.Name, h.CompressedSize64 = "raw", uint64(len(content))
	f, _ := w.CreateRaw(&h)
	_, _ = f.Write(content)
	_ = w.Close()
	return b.Bytes()
}

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(b)
	_ = w.Close()
	return out.Bytes()
}

func zstandard(b []byte) []byte {
	w, _ := zstd.NewWriter(nil)
	defer w.Close()
	return w.EncodeAll(b, nil)
}

func tarred(b []byte) []byte {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	_ = w.WriteHeader(&tar.Header{Name: "x", Size: int64(len(b)), Mode: 0o600, Format: tar.FormatUSTAR})
	_, _ = w.Write(b)
	_ = w.Close()
	return out.Bytes()
}

func again(n int, f func([]byte) []byte, b []byte) []byte {
	for range n {
		b = f(b)
	}
	return b
}

func one(b []byte) []byte { return zipped("inside", b) }

// carrying is a message with one attachment.
func carrying(b []byte) string {
	var lines strings.Builder
	for coded := base64.StdEncoding.EncodeToString(b); len(coded) > 0; {
		n := min(76, len(coded))
		lines.WriteString(coded[:n] + "\r\n")
		coded = coded[n:]
	}
	return part("application/octet-stream", "base64", lines.String())
}

func part(kind, encoding, body string) string {
	return "From: a@client.example\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n boundary=\"=_b\"\r\n\r\npreamble\r\n--=_b\r\n\r\ntext\r\n" +
		"--=_b\r\nContent-Type: " + kind + "\r\nContent-Transfer-Encoding: " + encoding + "\r\n\r\n" + body + "\r\n--=_b--\r\nepilogue\r\n"
}

func zeros(n int) []byte { return make([]byte, n) }

// bomb is a zip of 10 GB of zeros: blocks that each end on a byte.
func bomb() []byte {
	var block bytes.Buffer
	w, _ := flate.NewWriter(&block, 9)
	_, _ = w.Write(zeros(32 << 20))
	_ = w.Flush()
	return raw(zip.FileHeader{Method: zip.Deflate, UncompressedSize64: 320 * 32 << 20}, bytes.Repeat(block.Bytes(), 320))
}

func limited(t *testing.T, cfg unpack.Config) *unpack.Engine {
	t.Helper()
	cfg.Dir = t.TempDir()
	e, err := unpack.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if left, err := os.ReadDir(cfg.Dir); err != nil || len(left) > 0 {
			t.Errorf("files are left: %v, %v", left, err)
		}
	})
	return e
}

func multiparts(n int, boundary func(int) string) string {
	var b strings.Builder
	b.WriteString("From: a@client.example\r\n")
	for i := range n {
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=%s\r\n\r\n--%s\r\n", boundary(i), boundary(i))
	}
	return b.String() + "\r\ntext\r\n"
}

func forwards(n int, b []byte) string {
	return strings.Repeat("From: b@client.example\r\nContent-Type: message/rfc822\r\n\r\n", n) + carrying(b)
}

func TestScan(t *testing.T) {
	large := zeros(300 << 10) // above Member in the test, small when packed
	uu := "begin 644 x.zip\r\n" + uuencoded(one(large)) + "`\r\nend\r\n"
	locked := raw(zip.FileHeader{Method: zip.Store, Flags: 1}, []byte("secret"))
	for name, test := range map[string]struct {
		mail string
		want engine.Outcome
		why  engine.Reason
	}{
		"empty":                     {"", engine.Clean, 0},
		"only a header":             {"Subject: x\r\n", engine.Clean, 0},
		"text":                      {"Subject: x\r\n\r\ntext\r\n", engine.Clean, 0},
		"an mbox line":              {"Subject: x\r\n>From b Mon\r\nTo: b@acme.example\r\n\r\ntext\r\n", engine.Clean, 0},
		"an attachment":             {carrying([]byte("nothing")), engine.Clean, 0},
		"a zip":                     {carrying(one([]byte("nothing"))), engine.Clean, 0},
		"an empty zip":              {carrying(zipEmpty()), engine.Clean, 0},
		"six zips deep":             {carrying(again(6, one, []byte("x"))), engine.Clean, 0},
		"eight zips deep":           {carrying(again(8, one, []byte("x"))), engine.Unscannable, engine.TooDeep},
		"a member too large":        {carrying(one(large)), engine.Unscannable, engine.TooLarge},
		"in a zip in a zip":         {carrying(again(3, one, large)), engine.Unscannable, engine.TooLarge},
		"in gzip":                   {carrying(gzipped(large)), engine.Unscannable, engine.TooLarge},
		"in the second of two gzip": {carrying(append(gzipped([]byte("x")), gzipped(large)...)), engine.Unscannable, engine.TooLarge},
		"in bzip2":                  {part("application/x-bzip2", "base64", bzip2Zeros), engine.Unscannable, engine.TooLarge},
		"in zstd":                   {carrying(zstandard(large)), engine.Unscannable, engine.TooLarge},
		"in tar in zip":             {carrying(one(gzipped(tarred(one(large))))), engine.Unscannable, engine.TooLarge},
		"in a forwarded message":    {forwards(3, one(large)), engine.Unscannable, engine.TooLarge},
		"in a coded message":        {part("message/rfc822", "base64", base64.StdEncoding.EncodeToString([]byte(carrying(one(large))))), engine.Unscannable, engine.TooLarge},
		"in a message in a zip":     {carrying(one([]byte("Received: from x\r\n" + carrying(one(large))))), engine.Unscannable, engine.TooLarge},
		"behind a program":          {carrying(append([]byte("MZ\x90 a program"), one(large)...)), engine.Unscannable, engine.TooLarge},
		"uuencoded":                 {"Subject: x\r\n\r\nlook\r\n" + uu, engine.Unscannable, engine.TooLarge},
		"uuencoded, no end":         {"Subject: x\r\n\r\nlook\r\n" + strings.TrimSuffix(uu, "end\r\n"), engine.Unscannable, engine.TooLarge},
		"quoted-printable":          {part("application/zip", "quoted-printable", quoted(one(large))), engine.Unscannable, engine.TooLarge},
		"binary":                    {part("application/zip", "binary", string(one(large))), engine.Unscannable, engine.TooLarge},
		"without MIME-Version":      {"Content-Transfer-Encoding:\r\n base64 (so)\r\n\r\n" + base64.StdEncoding.EncodeToString(one(large)), engine.Unscannable, engine.TooLarge},
		"in one base64 line":        {part("x/y", "BASE64", base64.StdEncoding.EncodeToString(one(large))), engine.Unscannable, engine.TooLarge},
		"base64 with rubbish":       {part("x/y", "base64", rubbish(one(large))), engine.Unscannable, engine.TooLarge},
		"base64 past padding":       {part("x/y", "base64", "QQ==\r\n"+base64.StdEncoding.EncodeToString(one(large))), engine.Unscannable, engine.TooLarge},
		"no closing boundary":       {strings.TrimSuffix(carrying(one(large)), "--=_b--\r\nepilogue\r\n"), engine.Unscannable, engine.TooLarge},
		"no line before the body": {strings.Replace(carrying(one(large)), "base64\r\n\r\n", "base64\r\n", 1),
			engine.Unscannable, engine.TooLarge},
		"a message too large":      {"Subject: x\r\n\r\n" + strings.Repeat("text\r\n", 50_000), engine.Unscannable, engine.TooLarge},
		"many that are too large":  {carrying(many(20, zeros(150<<10))), engine.Unscannable, engine.TooLarge},
		"too many members":         {carrying(many(200, nil)), engine.Unscannable, engine.TooMany},
		"too many parts":           {"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\n\r\n", 10_000), engine.Unscannable, engine.TooMany},
		"deep multiparts":          {multiparts(1000, func(i int) string { return fmt.Sprint(i) }), engine.Unscannable, engine.TooDeep},
		"cyclic multiparts":        {multiparts(1000, func(int) string { return "b" }), engine.Unscannable, engine.TooDeep},
		"deep forwards":            {forwards(1000, []byte("x")), engine.Unscannable, engine.TooDeep},
		"a long type":              {"Content-Type: text/plain; x=" + strings.Repeat("x", 100_000) + "\r\n\r\n", engine.Unscannable, engine.TooLarge},
		"two types":                {"Content-Type: text/plain\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n", engine.Unscannable, engine.Damaged},
		"two zips in one":          {carrying(append(one(zeros(1000)), one([]byte("x"))...)), engine.Unscannable, engine.Damaged},
		"a zip and an empty one":   {carrying(append(one(zeros(1000)), zipEmpty()...)), engine.Unscannable, engine.Damaged},
		"a broken zip":             {carrying([]byte("PK\x03\x04 not really")), engine.Unscannable, engine.Damaged},
		"a cut zip":                {carrying(one([]byte("x"))[:40]), engine.Unscannable, engine.Damaged},
		"a cut gzip":               {carrying(gzipped([]byte("some text"))[:20]), engine.Unscannable, engine.Damaged},
		"a wrong checksum":         {carrying(raw(zip.FileHeader{Method: zip.Store, UncompressedSize64: 1, CRC32: 1}, []byte("x"))), engine.Unscannable, engine.Damaged},
		"a wrong size":             {carrying(raw(zip.FileHeader{Method: zip.Store, UncompressedSize64: 1}, zeros(1000))), engine.Unscannable, engine.Damaged},
		"a strange method":         {carrying(raw(zip.FileHeader{Method: 14}, []byte("x"))), engine.Unscannable, engine.NotSupported},
		"rar":                      {carrying([]byte("Rar!\x1a\x07\x01\x00")), engine.Unscannable, engine.NotSupported},
		"7z in zip":                {carrying(one([]byte("7z\xbc\xaf\x27\x1c"))), engine.Unscannable, engine.NotSupported},
		"a fragment":               {"Content-Type: message/partial; id=x; number=1\r\n\r\n", engine.Unscannable, engine.NotSupported},
		"an encrypted zip":         {carrying(locked), engine.Encrypted, engine.Archive},
		"an encrypted zip in zips": {carrying(again(2, one, locked)), engine.Encrypted, engine.Archive},
		"an encrypted document":    {carrying([]byte("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + strings.Repeat("\x00", 70_000) + utf16("EncryptedPackage"))), engine.Encrypted, engine.Archive},
		"OpenPGP":                  {"Content-Type: multipart/encrypted; boundary=b\r\n\r\n--b\r\n\r\n--b--\r\n", engine.Encrypted, engine.Message},
		"S/MIME":                   {"Content-Type: application/pkcs7-mime; smime-type=enveloped-data\r\n\r\n", engine.Encrypted, engine.Message},
		"a signed message":         {"Content-Type: application/pkcs7-mime; smime-type=signed-data\r\n\r\n", engine.Clean, 0},
	} {
		t.Run(name, func(t *testing.T) {
			for _, memory := range []int{0, 1} { // held in memory, and in files
				e := limited(t, unpack.Config{Depth: 7, Parts: 100, Member: 256 << 10, Total: 2 << 20, Memory: memory})
				// Read in small pieces, the size not told.
				v := e.Scan(t.Context(), iotest.HalfReader(strings.NewReader(test.mail)), enginetest.Facts(0))
				if v.Outcome != test.want || v.Reason != test.why {
					t.Errorf("%+v, want %v %v", v, test.want, test.why)
				}
				if v.Signatures == "" || len(v.Detail) > engine.MaxText {
					t.Errorf("%+v", v)
				}
			}
		})
	}
}

func zipEmpty() []byte {
	var b bytes.Buffer
	_ = zip.NewWriter(&b).Close()
	return b.Bytes()
}

func many(n int, content []byte) []byte {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i := range n {
		f, _ := w.Create(fmt.Sprint(i))
		_, _ = f.Write(content)
	}
	_ = w.Close()
	return b.Bytes()
}

func uuencoded(b []byte) string {
	var out strings.Builder
	for len(b) > 0 {
		n := min(45, len(b))
		out.WriteByte(byte(n) + ' ')
		for i := 0; i < n; i += 3 {
			var g [3]byte
			copy(g[:], b[i:n])
			for _, v := range [4]byte{g[0] >> 2, g[0]<<4&63 | g[1]>>4, g[1]<<2&63 | g[2]>>6, g[2] & 63} {
				out.WriteByte(v + ' ')
			}
		}
		out.WriteString("\r\n")
		b = b[n:]
	}
	return out.String()
}

func quoted(b []byte) string {
	var out strings.Builder
	for i, c := range b {
		fmt.Fprintf(&out, "=%02X", c)
		if i%20 == 19 {
			out.WriteString("= \r\n")
		}
	}
	return out.String()
}

func rubbish(b []byte) string {
	var out strings.Builder
	for _, c := range base64.RawStdEncoding.EncodeToString(b) {
		out.WriteString(string(c) + "!\t")
	}
	return out.String()
}

func utf16(s string) string {
	var out []byte
	for _, c := range []byte(s) {
		out = append(out, c, 0)
	}
	return string(out)
}

// bzip2Zeros is a megabyte of zeros.
const bzip2Zeros = "QlpoOTFBWSZTWXnTnkgAB6jAQMAAAAIACCAAMMwJqmmVJDapSQ8XckU4UJB5055I"

// TestBomb: 10 GB out of 10 MB, within memory and time.
func TestBomb(t *testing.T) {
	e := limited(t, unpack.Config{})
	mail := carrying(bomb())
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	begun := time.Now()
	v := enginetest.Ask(t, e, mail)
	runtime.ReadMemStats(&after)
	if v.Outcome != engine.Unscannable || v.Reason != engine.TooLarge {
		t.Errorf("%+v", v)
	}
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 16<<20 {
		t.Errorf("allocated %d MiB", grown>>20)
	}
}

func TestFigures(t *testing.T) {
	e := limited(t, unpack.Config{})
	v := enginetest.Ask(t, e, carrying(one([]byte("0123456789"))))
	// The message, two parts, the zip and its member.
	if v.Outcome != engine.Clean || !strings.HasPrefix(v.Detail, "5 parts, 2 deep, ") {
		t.Errorf("%+v", v)
	}
}

func TestTime(t *testing.T) {
	e := limited(t, unpack.Config{Time: time.Nanosecond})
	if v := enginetest.Ask(t, e, carrying(one([]byte("x")))); v.Outcome != engine.Unscannable || v.Reason != engine.TooLong {
		t.Errorf("%+v", v)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	e = limited(t, unpack.Config{})
	if v := e.Scan(ctx, strings.NewReader(carrying(nil)), enginetest.Facts(0)); v.Outcome != engine.Failed || v.Reason != engine.Late {
		t.Errorf("called off: %+v", v)
	}
}

func TestFailures(t *testing.T) {
	e := limited(t, unpack.Config{})
	mail := carrying(one([]byte("x")))
	content := io.MultiReader(strings.NewReader(mail[:200]), iotest.ErrReader(errors.New("a chunk is missing")))
	if v := e.Scan(t.Context(), content, enginetest.Facts(0)); v.Outcome != engine.Failed || v.Reason != engine.Unreadable {
		t.Errorf("%+v", v)
	}
	nowhere, err := unpack.New(unpack.Config{Memory: 1, Dir: t.TempDir() + "/none"})
	if err != nil {
		t.Fatal(err)
	}
	if v := enginetest.Ask(t, nowhere, mail); v.Outcome != engine.Failed || v.Reason != engine.Trouble {
		t.Errorf("%+v", v)
	}
	if _, err := unpack.New(unpack.Config{Depth: -1}); err == nil {
		t.Error("a negative limit is taken")
	}
}

func FuzzScan(f *testing.F) {
	for _, seed := range []string{carrying(one([]byte("x"))), carrying(gzipped(tarred([]byte("x")))), multiparts(3, func(int) string { return "b" }),
		forwards(2, []byte("x")), part("a/b", "quoted-printable", "=41=\r\n="), "Subject: x\r\n\r\nbegin 644 x\r\n#86)C\r\nend\r\n"} {
		f.Add([]byte(seed), false)
	}
	f.Add(one([]byte("x")), true)
	f.Add(zstandard([]byte("x")), true)
	f.Fuzz(func(t *testing.T, b []byte, attached bool) {
		if attached {
			b = []byte(carrying(b))
		}
		e := limited(t, unpack.Config{Depth: 5, Parts: 50, Member: 64 << 10, Total: 256 << 10, Memory: 1 << 10})
		v := e.Scan(t.Context(), bytes.NewReader(b), enginetest.Facts(0))
		if v.Outcome != engine.Clean && v.Outcome != engine.Unscannable && v.Outcome != engine.Encrypted {
			t.Errorf("%+v", v)
		}
	})
}
