package vault

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"io/fs"
	"mime"
	"mime/multipart"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"qstream/tapper/vault/order"
)

// parts are those of a report, by type.
func parts(t *testing.T, text []byte) map[string][]byte {
	t.Helper()
	m, err := mail.ReadMessage(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]byte{}
	for r := multipart.NewReader(m.Body, params["boundary"]); ; {
		p, err := r.NextRawPart()
		if err == io.EOF {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		typ, _, err := mime.ParseMediaType(p.Header.Get("Content-Type"))
		if err != nil {
			t.Fatal(err)
		}
		if found[typ], err = io.ReadAll(p); err != nil {
			t.Fatal(err)
		}
	}
}

// decrypt opens what a sink has in a file, as who holds the private key does.
func decrypt(t *testing.T, identity *age.X25519Identity, text []byte) map[string][]byte {
	t.Helper()
	sealed, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(string(parts(t, text)["application/octet-stream"]), "\r\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	r, err := age.Decrypt(bytes.NewReader(sealed), identity)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return parts(t, plain)
}

// files are all files below a folder, with their names before what is in them.
func files(t *testing.T, dir string) (all [][]byte) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		all = append(all, append([]byte(filepath.Base(path)+"\x00"), text...))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// With encrypt the sink has ids of copies, and of the message not a word: not
// its content, who wrote it, to whom, its id, what became of it. Who has the
// private key has all of it, the content to the octet.
func TestEncrypted(t *testing.T) {
	s := newSystem(t)
	p := s.start()
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	who := []order.Rule{{Recipient: "bob@acme.example"}}
	ids, sinks := map[string]string{}, map[string]string{"full": "maildir:", "envelope": "maildir:", "manifest": "file:"}
	for name, kind := range sinks {
		what := order.Full
		if name == "envelope" {
			what = order.Envelope
		}
		ids[name] = p.approve(order.Order{Who: who, What: what, Sink: kind + filepath.Join(s.sinks, name), Encrypt: identity.Recipient().String()})
	}
	message := s.put("bob@acme.example")
	for _, id := range ids {
		p.complete(id, 1)
	}
	words := []string{
		message, "bob@", "acme.", "one.example", "two.example", "Text.", "Subject: mail", "Received:", "mail 1", "345/26", "DELIVERED", "delivered",
		"Outcome", "Recipient", "message/rfc822", "reverse_path\":\"s", // none of it is base64 by chance
	}
	for name := range sinks {
		all := files(t, filepath.Join(s.sinks, name))
		if len(all) < 2 {
			t.Fatalf("%s: %d files", name, len(all))
		}
		for _, file := range all {
			for _, word := range words {
				if bytes.Contains(file, []byte(word)) {
					t.Errorf("%s: the sink sees %q in\n%s", name, word, file)
				}
			}
		}
	}
	for _, name := range []string{"full", "envelope"} {
		var copies, outcomes int
		for _, file := range files(t, filepath.Join(s.sinks, name)) {
			_, text, _ := bytes.Cut(file, []byte{0})
			got := decrypt(t, identity, text)
			told := string(got["text/plain"])
			content, full := got["message/rfc822"]
			var info struct {
				Kind       string
				Message    string `json:"message_id"`
				Recipients []struct{ Address string }
				Event      *struct{ Outcomes []struct{ Address string } }
			}
			if raw := got["application/json"]; raw != nil {
				if err := json.Unmarshal(raw, &info); err != nil {
					t.Fatal(err)
				}
			}
			switch {
			case info.Event != nil:
				outcomes++
				if info.Message != message || len(info.Event.Outcomes) != 1 || info.Event.Outcomes[0].Address != "bob@acme.example" {
					t.Errorf("%s: an outcome of %+v", name, info)
				}
				continue
			case full != (name == "full"):
				t.Errorf("%s: has content: %t", name, full)
			case full && string(content) != "Received: by mx.example\r\nSubject: mail 1\r\n\r\nText.\r\n":
				t.Errorf("%s: the content is %q", name, content)
			case !full && (len(info.Recipients) != 1 || info.Recipients[0].Address != "bob@acme.example" || info.Message != message):
				t.Errorf("%s: an envelope of %+v", name, info)
			}
			copies++
			if !strings.Contains(told, "Sender: sender@one.example\r\n") || !strings.Contains(told, ": bob@acme.example\r\n") || strings.Contains(told, "two.example") {
				t.Errorf("%s: the report says %q", name, told)
			}
		}
		if copies != 1 || outcomes != 1 {
			t.Errorf("%s: %d copies and %d outcomes", name, copies, outcomes)
		}
	}
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files(t, filepath.Join(s.sinks, "full")) {
		sealed, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(string(parts(t, file[slices.Index(file, 0)+1:])["application/octet-stream"]), "\r\n", ""))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := age.Decrypt(bytes.NewReader(sealed), other); err == nil {
			t.Error("another key opens it")
		}
	}
}
