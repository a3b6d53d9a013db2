package sinks_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"qstream/bus/bustest"
	"qstream/directory"
	"qstream/schemas"
	"qstream/tapper/sign"
	"qstream/test/fakemx"
)

// places has a row for every type of sink.
var places = map[string]func(t *testing.T) place{
	directory.SinkMaildir: maildirPlace,
	directory.SinkMbox:    mboxPlace,
	directory.SinkFile:    filePlace,
	directory.SinkETSI:    etsiPlace,
	directory.SinkSMTP:    smtpPlace,
	directory.SinkS3:      s3Place,
	directory.SinkWebhook: webhookPlace,
	directory.SinkKafka:   kafkaPlace,
}

func maildirPlace(t *testing.T) place {
	folder := filepath.Join(t.TempDir(), "archive")
	return place{spec: "maildir:" + folder, path: folder, lf: true, stored: func() []string { return readAll(t, folder+"/new/*") }}
}

func mboxPlace(t *testing.T) place {
	file := filepath.Join(t.TempDir(), "sub", "archive.mbox")
	return place{spec: "mbox:" + file, path: file, lf: true, quoted: true, stored: func() []string {
		var all []string
		for _, m := range regexp.MustCompile(`(?m)^From `).Split(strings.Join(readAll(t, file), ""), -1)[1:] {
			all = append(all, strings.ReplaceAll(m, "\n>From ", "\nFrom "))
		}
		return all
	}}
}

// filePlace gives each line with its file's text.
func filePlace(t *testing.T) place {
	folder := filepath.Join(t.TempDir(), "archive")
	return place{spec: "file:" + folder, path: folder, stored: func() []string {
		var all []string
		for _, book := range readAll(t, folder+"/*/manifest.*.jsonl") {
			for line := range strings.Lines(book) {
				var m struct{ File string }
				if err := json.Unmarshal([]byte(line), &m); err != nil {
					t.Error(err)
				}
				if m.File != "" {
					line += strings.Join(readAll(t, folder+"/*/"+m.File), "")
				}
				all = append(all, line)
			}
		}
		return all
	}}
}

func etsiPlace(t *testing.T) place {
	folder := filepath.Join(t.TempDir(), "events")
	return place{spec: "etsi:" + folder, path: folder, only: true, stored: func() []string {
		var all []string
		for _, book := range readAll(t, folder+"/*/events.*.jsonl") {
			all = append(all, strings.SplitAfter(strings.TrimSuffix(book, "\n"), "\n")...)
		}
		return all
	}}
}

// smtpPlace has a report for each copy. A repetition is a second one.
func smtpPlace(t *testing.T) place {
	s, err := fakemx.Start(fakemx.Config{TLS: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	ca := writeFile(t, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate()})))
	g := newGate(t, s.Addr())
	return place{
		spec: "smtp://" + g.addr() + " to=journal@journal.example ca_file=" + ca, gate: g, again: true,
		stored: func() []string {
			var all []string
			for _, m := range s.Messages() {
				if !m.TLS || m.From != "" || fmt.Sprint(m.Rcpts) != "[journal@journal.example]" {
					t.Errorf("TLS %v from <%s> to %v", m.TLS, m.From, m.Rcpts)
				}
				all = append(all, string(m.Data))
			}
			return all
		},
	}
}

func writeFile(t *testing.T, name, text string) string {
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// bucket is an S3-compatible store for a test: it takes objects whose request
// is signed by the key that it knows, and whose hash is the one that was told.
type bucket struct {
	mu      sync.Mutex
	order   []string
	objects map[string][]byte
	digest  bool // keep the sizes alone
}

const s3Access, s3Secret = "AKIDEXAMPLE", "an example of a secret key"

func (b *bucket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body := &bytes.Buffer{}
	sum := sha256.New()
	var to io.Writer = io.MultiWriter(sum, body)
	if b.digest {
		to = sum
	}
	if n, err := io.Copy(to, r.Body); err != nil || n != r.ContentLength {
		http.Error(w, "broken off", http.StatusBadRequest)
		return
	}
	told, given := r.Header.Get("X-Amz-Content-Sha256"), r.Header.Get("Authorization")
	again, _ := http.NewRequest(r.Method, "http://"+r.Host+r.URL.RequestURI(), nil)
	again.ContentLength = r.ContentLength
	for _, name := range []string{"Content-Type", "X-Amz-Content-Sha256"} {
		again.Header.Set(name, r.Header.Get(name))
	}
	at, _ := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	_ = v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }).SignHTTP(r.Context(),
		aws.Credentials{AccessKeyID: s3Access, SecretAccessKey: s3Secret}, again, told, "s3", "us-east-1", at)
	switch {
	case again.Header.Get("Authorization") != given:
		http.Error(w, "<Error><Code>SignatureDoesNotMatch</Code></Error>", http.StatusForbidden)
	case fmt.Sprintf("%x", sum.Sum(nil)) != told:
		http.Error(w, "<Error><Code>XAmzContentSHA256Mismatch</Code></Error>", http.StatusBadRequest)
	case r.Method != http.MethodPut:
		http.Error(w, "", http.StatusMethodNotAllowed)
	default:
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.objects[r.URL.Path] == nil {
			b.order = append(b.order, r.URL.Path)
		}
		b.objects[r.URL.Path] = append([]byte{}, body.Bytes()...)
		w.Header().Set("ETag", fmt.Sprintf("%q", told[:32]))
	}
}

// copies are the objects that tell of a whole copy, and its content.
func (b *bucket) copies() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []string
	for _, key := range b.order {
		if name, ok := strings.CutSuffix(key, ".json"); ok {
			all = append(all, string(b.objects[key])+string(b.objects[name+".eml"])+string(b.objects[name+".age"]))
		}
	}
	return all
}

func s3Place(t *testing.T) place {
	b := &bucket{objects: map[string][]byte{}}
	g := newGate(t, serve(t, b))
	key := writeFile(t, "key", s3Access+"\n"+s3Secret+"\n")
	return place{
		spec: "s3://copies/of/mail endpoint=http://" + g.addr() + " key_file=" + key, gate: g, stored: b.copies,
		large: func() { b.digest = true },
	}
}

func serve(t *testing.T, h http.Handler) (addr string) {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

const hookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// webhookPlace keeps what came by its id, as a receiver does.
func webhookPlace(t *testing.T) place {
	key, err := sign.ParseKey(hookSecret)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var all []string
	seen, whole := map[string]bool{}, true
	g := newGate(t, serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, "broken off", http.StatusBadRequest)
			return
		}
		if err := sign.Verify(r.Header, []sign.Key{key}, time.Now(), body); err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		var o struct {
			ID      string
			Content []byte
		}
		mu.Lock()
		defer mu.Unlock()
		if whole {
			if err := json.Unmarshal(body, &o); err != nil {
				t.Error(err)
			}
			body = bytes.ReplaceAll(body, []byte(base64.StdEncoding.EncodeToString(o.Content)), nil)
		}
		if id := r.Header.Get("webhook-id"); !seen[id] {
			seen[id] = true
			all = append(all, string(body)+string(o.Content))
		}
	})))
	secrets := writeFile(t, "secret", "# the present one\n"+hookSecret+"\n")
	return place{
		spec: "http://" + g.addr() + "/copies?of=mail secret_file=" + secrets, gate: g,
		large: func() { whole = false },
		stored: func() []string {
			mu.Lock()
			defer mu.Unlock()
			return append([]string{}, all...)
		},
	}
}

// kafkaPlace puts pieces together as a consumer does: what isn't ended by
// "last" is none, and a repetition replaces.
func kafkaPlace(t *testing.T) place {
	b := bustest.Start(t)
	topic := schemas.Greylist // any topic that is there
	return place{
		spec: "kafka://" + b.Seeds[0] + "/" + topic + " tls=off", freeze: b.Freeze,
		stored: func() []string {
			var order []string
			open, whole := map[string]string{}, map[string]string{}
			for _, r := range bustest.Records(t, b.Dial(t, busConfig), topic) {
				h := map[string]string{}
				for _, x := range r.Headers {
					h[x.Key] = string(x.Value)
				}
				id := h["copy"]
				if h["piece"] == "0" {
					open[id] = ""
				}
				open[id] += string(r.Value)
				if _, ok := h["last"]; ok {
					if _, again := whole[id]; !again {
						order = append(order, id)
					}
					whole[id] = open[id]
				}
			}
			var all []string
			for _, id := range order {
				all = append(all, whole[id])
			}
			return all
		},
	}
}
