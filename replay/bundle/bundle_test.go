package bundle

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/mail"
	"qstream/replay"
	"qstream/replay/custody"
	pb "qstream/schemas/qstream/v1"
	keeper "qstream/tapper/custody"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// made is a bundle of two messages, one of them large, and its key.
func made(t testing.TB, large int) ([]byte, ed25519.PrivateKey, []string) {
	t.Helper()
	b := bustest.New(t)
	var ids []string
	for _, content := range []string{"Subject: one\r\n\r\nhello\r\n", "Subject: two\r\n\r\n" + strings.Repeat("0123456789abcde\r\n", large)} {
		id := mail.NewID(time.Now())
		ids = append(ids, id)
		sum := sha256.Sum256([]byte(content))
		r := &pb.Received{
			Id: id, Session: &pb.Session{Id: "s", ClientIp: "192.0.2.1"},
			Envelope: &pb.Envelope{ReversePath: "ann@sender.example", Recipients: []*pb.Recipient{{Address: "bob@acme.example"}}},
			Content:  &pb.Content{Where: &pb.Content_Inline{Inline: []byte(content)}, Size: int64(len(content)), Sha256: sum[:]},
		}
		if len(content) > bus.InlineLimit {
			blob := b.Create(t.Context(), id, "")
			if _, err := io.WriteString(blob, content); err != nil {
				t.Fatal(err)
			}
			var err error
			if r.Content, err = blob.Commit(); err != nil {
				t.Fatal(err)
			}
		}
		bustest.Put(t, b, bus.NewReceived(r),
			bus.NewEvent(&pb.Event{Type: pb.EventType_EVENT_TYPE_ACCEPTED, MessageId: id}),
			bus.NewEvent(&pb.Event{Type: pb.EventType_EVENT_TYPE_ROUTED, MessageId: mail.NewID(time.Now()), ParentId: id, Origin: pb.Origin_ORIGIN_DSN}),
			bus.NewEvent(&pb.Event{Type: pb.EventType_EVENT_TYPE_ACCEPTED, MessageId: mail.NewID(time.Now())}))
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	sign(t, b, key, 8)
	bustest.Put(t, b, bus.NewEvent(&pb.Event{Type: pb.EventType_EVENT_TYPE_DELIVERED, MessageId: ids[0]}))
	var out bytes.Buffer
	m, err := Write(t.Context(), &replay.History{Bus: b}, Order{
		Selection: replay.Selection{Recipient: "bob@acme.example"}, Key: key, Temp: t.TempDir(),
		Manifest: Manifest{Made: time.Unix(1_700_000_000, 0).UTC(), Actor: "op", Reason: "case 7"},
	}, &out)
	if err != nil {
		t.Fatal(err)
	}
	if m.Messages != 2 || m.Events != 5 || m.Proved != 6 || m.Unproved != 1 {
		t.Fatalf("%d messages, %d events, %d and %d records", m.Messages, m.Events, m.Proved, m.Unproved)
	}
	return out.Bytes(), key, ids
}

// sign puts the records of b under checkpoints.
func sign(t testing.TB, b *bus.Bus, key ed25519.PrivateKey, records int64) {
	t.Helper()
	c, err := keeper.New(keeper.Config{Key: key, Every: 5 * time.Millisecond}, keeper.Deps{Bus: b})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	for until := time.Now().Add(30 * time.Second); time.Now().Before(until); time.Sleep(5 * time.Millisecond) {
		r, err := custody.Verify(ctx, b, custody.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range r.Parts {
			records -= p.Records
		}
		if records == 0 {
			return
		}
		for _, p := range r.Parts {
			records += p.Records
		}
	}
	t.Fatal("the records are not signed")
}

func TestBundleVerifies(t *testing.T) {
	text, key, ids := made(t, 40_000)
	for name, k := range map[string]ed25519.PublicKey{"the maker's key": key.Public().(ed25519.PublicKey), "the bundle's own": nil} {
		res, err := Verify(bytes.NewReader(text), Keys{Maker: k})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(res.Checkpoints) != 1 || res.Checkpoints[0] != res.Fingerprint {
			t.Errorf("checkpoints by %v", res.Checkpoints)
		}
		if m := res.Manifest; m.Actor != "op" || m.Reason != "case 7" || m.Messages != 2 || res.Fingerprint != Fingerprint(m.Key) {
			t.Errorf("%+v", res)
		}
	}
	other, _, _ := ed25519.GenerateKey(nil)
	if _, err := Verify(bytes.NewReader(text), Keys{Maker: other}); !errors.Is(err, ErrFalse) {
		t.Errorf("another's key: %v", err)
	}
	if _, err := Verify(bytes.NewReader(text), Keys{Checkpoints: other}); !errors.Is(err, ErrFalse) {
		t.Errorf("another's checkpoints: %v", err)
	}
	// Anybody can open it.
	files := map[string]bool{}
	for r := tar.NewReader(bytes.NewReader(text)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = true
	}
	if !files["content/"+ids[0]+".eml"] || !files["README.txt"] || len(files) != 11 {
		t.Errorf("%v", files)
	}
}

// TestEveryByteCounts changes bytes of a bundle, cuts it at many lengths, and
// appends to it: with QSTREAM_TEST_LONG each byte, otherwise some of them, other
// ones each time.
func TestEveryByteCounts(t *testing.T) {
	text, _, _ := made(t, 1)
	step := 7
	switch {
	case os.Getenv("QSTREAM_TEST_LONG") != "":
		step = 1
	case testing.Short():
		step = 41
	}
	for i := rand.IntN(step); i < len(text); i += step {
		flip := byte(1) << (i % 8)
		text[i] ^= flip
		if _, err := Verify(bytes.NewReader(text), Keys{}); !errors.Is(err, ErrFalse) {
			t.Fatalf("byte %d of %d, bit %x: %v", i, len(text), flip, err)
		}
		text[i] ^= flip
	}
	for n := 0; n < len(text); n += 7 * step {
		if _, err := Verify(bytes.NewReader(text[:n]), Keys{}); !errors.Is(err, ErrFalse) {
			t.Fatalf("%d of %d bytes: %v", n, len(text), err)
		}
	}
	for _, more := range []string{"x", "\x00", strings.Repeat("\x00", 512), strings.Repeat("\x00", 10240)} {
		if _, err := Verify(io.MultiReader(bytes.NewReader(text), strings.NewReader(more)), Keys{}); !errors.Is(err, ErrFalse) {
			t.Errorf("%d bytes more: %v", len(more), err)
		}
	}
	if _, err := Verify(bytes.NewReader(text), Keys{}); err != nil {
		t.Errorf("as it was: %v", err)
	}
}

// TestNoHoles: a file that claims gigabytes without having them is not read.
func TestNoHoles(t *testing.T) {
	pax := ""
	for _, r := range []string{"GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=content/x.eml", "GNU.sparse.realsize=8000000000"} {
		pax += fmt.Sprintf("%d %s\n", len(r)+4, r) // of two digits
	}
	var text bytes.Buffer
	out := tar.NewWriter(&text)
	for _, data := range []string{pax, "0\n" + strings.Repeat("\x00", 510)} {
		if err := out.WriteHeader(header("content/x.eml", int64(len(data)))); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Write([]byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	// The first is the header of what follows.
	head, sum := text.Bytes()[:512], 0
	head[156] = tar.TypeXHeader
	copy(head[148:156], "        ")
	for _, b := range head {
		sum += int(b)
	}
	copy(head[148:], fmt.Sprintf("%06o\x00 ", sum))
	if h, err := tar.NewReader(bytes.NewReader(text.Bytes())).Next(); err != nil || h.Size != 8_000_000_000 {
		t.Fatalf("%+v %v", h, err)
	}
	if _, err := Verify(&text, Keys{}); !errors.Is(err, ErrFalse) || !strings.Contains(err.Error(), "no plain file") {
		t.Error(err)
	}
}

// TestPartsMustAgree has bundles whose hashes and signature are right and
// whose parts contradict one another: somebody with a key made them.
func TestPartsMustAgree(t *testing.T) {
	text, _, ids := made(t, 1)
	_, key, _ := ed25519.GenerateKey(nil)
	for name, change := range map[string]func(name string, data []byte) []byte{
		"other content": func(n string, d []byte) []byte { return replaced(n == "content/"+ids[0]+".eml", d, "hello", "hullo") },
		"other place":   func(n string, d []byte) []byte { return replaced(n == "received/"+ids[0]+".record", d, ids[0], ids[1]) },
		"other inline": func(n string, d []byte) []byte {
			return replaced(n == "received/"+ids[0]+".record", d, "hello", "hullo")
		},
		"other hash":      func(n string, d []byte) []byte { return replaced(n == messagesName, d, `"sha256":"`, `"sha256":"0`) },
		"missing content": func(n string, d []byte) []byte { return dropped(n == "content/"+ids[1]+".eml", d) },
		"missing record":  func(n string, d []byte) []byte { return dropped(n == "received/"+ids[1]+".record", d) },
		"another's proof": func(n string, d []byte) []byte { return replaced(n == proofsName, d, `"index":`, `"index":1`) },
		"other checkpoint": func(n string, d []byte) []byte {
			return replaced(n == proofsName, d, `"checkpoint":`, `"checkpoint":1`)
		},
		"other key field": func(n string, d []byte) []byte { return replaced(n == proofsName, d, `"key":"`, `"key":"AAAA`) },
		"a proof twice": func(n string, d []byte) []byte {
			if n == proofsName {
				first, _, _ := bytes.Cut(d, []byte("\n"))
				return append(append([]byte(nil), d...), append(first, '\n')...)
			}
			return d
		},
		"other sender": func(n string, d []byte) []byte {
			return replaced(n == messagesName, d, "ann@sender.example", "eve@sender.example")
		},
		"other recipient": func(n string, d []byte) []byte {
			return replaced(n == messagesName, d, "bob@acme.example", "bab@acme.example")
		},
		"other client": func(n string, d []byte) []byte { return replaced(n == messagesName, d, "192.0.2.1", "192.0.2.2") },
		"other time": func(n string, d []byte) []byte {
			return replaced(n == messagesName, d, `"accepted":"2`, `"accepted":"1`)
		},
		"an event's time": func(n string, d []byte) []byte { return replaced(n == eventsName, d, `"appended":"2`, `"appended":"1`) },
		"described twice": func(n string, d []byte) []byte {
			if n == messagesName {
				return append(append([]byte(nil), d...), d...)
			}
			return d
		},
		"no proofs":      func(n string, d []byte) []byte { return dropped(n == proofsName, d) },
		"no checkpoints": func(n string, d []byte) []byte { return dropped(n == checkpointsName, d) },
		"not JSON":       func(n string, d []byte) []byte { return replaced(n == eventsName, d, "{", "[") },
	} {
		if _, err := Verify(bytes.NewReader(resigned(t, text, key, change)), Keys{}); !errors.Is(err, ErrFalse) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Verify(bytes.NewReader(resigned(t, text, key, func(_ string, d []byte) []byte { return d })), Keys{}); err != nil {
		t.Errorf("unchanged: %v", err)
	}
}

// TestWantedCheckpoints: who wants a key's checkpoints isn't content with none.
func TestWantedCheckpoints(t *testing.T) {
	b := bustest.New(t)
	id := mail.NewID(time.Now())
	sum := sha256.Sum256([]byte("x"))
	bustest.Put(t, b, bus.NewReceived(&pb.Received{
		Id: id, Session: &pb.Session{Protocol: 99}, // of a later version
		Envelope: &pb.Envelope{Recipients: []*pb.Recipient{{Address: "bob@acme.example"}}},
		Content:  &pb.Content{Where: &pb.Content_Inline{Inline: []byte("x")}, Size: 1, Sha256: sum[:]},
	}))
	public, key, _ := ed25519.GenerateKey(nil)
	var out bytes.Buffer
	if _, err := Write(t.Context(), &replay.History{Bus: b}, Order{Selection: replay.Selection{IDs: []string{id}}, Key: key, Temp: t.TempDir()}, &out); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(bytes.NewReader(out.Bytes()), Keys{Maker: public}); err != nil {
		t.Errorf("whatever checkpoints: %v", err)
	}
	if _, err := Verify(bytes.NewReader(out.Bytes()), Keys{Checkpoints: public}); !errors.Is(err, ErrFalse) {
		t.Errorf("without the checkpoints that are wanted: %v", err)
	}
}

func replaced(here bool, d []byte, old, to string) []byte {
	if here {
		return bytes.Replace(d, []byte(old), []byte(to), 1)
	}
	return d
}

func dropped(here bool, d []byte) []byte {
	if here {
		return nil
	}
	return d
}

// resigned writes a bundle again with changed files, true hashes and another
// signature.
func resigned(t *testing.T, text []byte, key ed25519.PrivateKey, change func(string, []byte) []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := &writer{tar: tar.NewWriter(&out), manifest: Manifest{Format: Format, Key: key.Public().(ed25519.PublicKey), Messages: 2, Events: 5, Proved: 6, Unproved: 1}}
	for r := tar.NewReader(bytes.NewReader(text)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.Name == manifestName || h.Name == signName {
			continue
		}
		if data = change(h.Name, data); data == nil {
			continue
		}
		if err := w.bytes(h.Name, data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.sign(key); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestKeys(t *testing.T) {
	public, private, _ := ed25519.GenerateKey(nil)
	dir := t.TempDir()
	write := func(name, kind string, der []byte, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	secret := write("key.pem", "PRIVATE KEY", der, err)
	der, err = x509.MarshalPKIXPublicKey(public)
	open := write("pub.pem", "PUBLIC KEY", der, err)
	if k, err := ReadPrivateKey(secret); err != nil || !k.Equal(private) {
		t.Errorf("%v", err)
	}
	if k, err := ReadPublicKey(open); err != nil || !k.Equal(public) {
		t.Errorf("%v", err)
	}
	if _, err := ReadPublicKey(secret); err == nil || !strings.Contains(err.Error(), `want a public key (openssl pkey -pubout), not "PRIVATE KEY"`) {
		t.Errorf("the private key for the public one: %v", err)
	}
	if _, err := ReadPrivateKey(open); err == nil {
		t.Error("a public key was taken for a private one")
	}
	if _, err := ReadPublicKey(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

// FuzzVerify: whatever the file, it is refused without a panic.
func FuzzVerify(f *testing.F) {
	text, _, _ := made(f, 1)
	f.Add(text[:512])
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, s []byte) {
		if _, err := Verify(bytes.NewReader(s), Keys{}); !errors.Is(err, ErrFalse) {
			t.Errorf("%v", err)
		}
	})
}
