package ingest

import (
	"io"
	"strings"
	"testing"

	"qstream/bus/bustest"
)

// Content that comes before its envelope is held to the recipients' policy.
func TestNetstringsPolicy(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, site+"\n---\nkind: policy\nname: p\nbad_mime_types: TVqQAAMAA\nvariables: {DATABYTES: 1000}\n")
	in, _ := start(t, b, anyPort(Config{}))
	for _, tt := range []struct{ name, text, want string }{
		{"fits", qmtp("x\r\n", "", "a@acme.example"), "K"},
		{"too large", qmtp(strings.Repeat("x\r\n", 400), "", "a@acme.example"), "D5.3.4"},
		{"too large for its chunks", qmtp(strings.Repeat("x\r\n", 40_000), "", "a@acme.example"), "D5.3.4"},
		{"a program", qmtp(program+"TVqQAAMAAAAEAAAA\r\n", "", "a@acme.example"), "D5.3.2"},
	} {
		if got := answers(t, talk(t, connect(t, in, "qmtp"), tt.text+"x")); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// Content that is too large to be kept is searched where it is stored, as far
// as its recipients ask for it.
func TestNetstringsLargeSearched(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, relaySite+`
---
kind: policy
name: p
match: {domains: acme.example, clients: all}
bad_mime_types: TVqQAAMAA
bad_loader_types: Mi5kb
`)
	in, _ := start(t, b, anyPort(Config{}))
	filler := strings.Repeat(strings.Repeat("QUJD", 19)+"\r\n", 12_000) // 936 KB, two chunks
	clean := program + filler
	head := clean + "--x\r\nContent-Transfer-Encoding: base64\r\n\r\nTVqQAAMAAAAEAAAA\r\n"
	loader := clean + "AAAAMi5kbAAAAAAAAAAA\r\n" + filler
	for _, tt := range []struct{ name, content, to, want string }{
		{"clean", clean, "a@acme.example", "K"},
		{"a program at the end", head, "a@acme.example", "D5.3.2"},
		{"a loader in between", loader, "a@acme.example", "D5.7.1"},
		{"a loader for who doesn't mind", loader, "a@elsewhere.example", "K"},
	} {
		for _, service := range []string{"qmtp", "qmqp"} {
			text, end := qmtp(tt.content, "", tt.to), "x"
			if service == "qmqp" {
				text, end = qmqp(strings.ReplaceAll(tt.content, "\r\n", "\n"), "", tt.to), ""
			}
			if got := answers(t, talk(t, connect(t, in, service), text+end)); got != tt.want {
				t.Errorf("%s by %s: %q, want %q", tt.name, service, got, tt.want)
			}
		}
	}
	whole := map[int64]int{}
	for _, m := range received(t, b, 4) {
		whole[m.Content.Size]++
		r, err := b.Open(t.Context(), m.Content.GetRef())
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, r); err != nil || n != m.Content.Size {
			t.Errorf("%d of %d octets: %v", n, m.Content.Size, err)
		}
		r.Close()
	}
	if whole[int64(len(clean))] != 2 || whole[int64(len(loader))] != 2 {
		t.Errorf("sizes %v", whole)
	}
}
