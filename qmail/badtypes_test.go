package qmail

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func contentRules(t interface{ Fatal(...any) }) ContentRules {
	mime, err := ParseMIMETypes("# programs\nTVqQAAMAAAAEAAAA\nTVoAAAQAA\n")
	if err != nil {
		t.Fatal(err)
	}
	loaders, err := ParseLoaderTypes("Mi5kb\nMzIuZ\n")
	if err != nil {
		t.Fatal(err)
	}
	return ContentRules{MIME: mime, Loaders: loaders}
}

const part = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: application/octet-stream\nContent-Transfer-Encoding: base64\nContent-Disposition: attachment\n\n"

func TestContentScan(t *testing.T) {
	blanks := contentRules(t)
	blanks.Blanks = true
	other := contentRules(t)
	other.Loader = 'X'
	for name, tt := range map[string]struct {
		rules   ContentRules
		content string
		want    Finding
	}{
		"program":                 {contentRules(t), part + "TVqQAAMAAAAEAAAA//8AALgAAAA\n--x--\n", BadMIMEType},
		"program, top level":      {contentRules(t), "content-transfer-encoding:BASE64\n\nTVoAAAQAAAAA\n", BadMIMEType},
		"program, folded field":   {contentRules(t), "Content-Transfer-Encoding:\n base64\n\nTVoAAAQAAAAA\n", BadMIMEType},
		"program, short lines":    {contentRules(t), part + "TVqQ\nAAMA\nAAAEAAAA\n", BadMIMEType},
		"program, behind a blank": {contentRules(t), part + "\n\nTVqQAAMAAAAEAAAA\n", BadMIMEType},
		"program, later in it":    {contentRules(t), part + "AAAATVqQAAMAAAAEAAAA\n", Clean},
		"program, second part":    {contentRules(t), part + "AAAA\n--x\nContent-Transfer-Encoding: base64\n\nTVqQAAMAAAAEAAAA\n", BadMIMEType},
		"program as text":         {contentRules(t), "Subject: x\n\nTVqQAAMAAAAEAAAA\n", Clean},
		"program, quoted":         {contentRules(t), "Content-Transfer-Encoding: quoted-printable\n\nTVqQAAMAAAAEAAAA\n", Clean},
		"text after base64":       {contentRules(t), part + "AAAA\n--x\nContent-Type: text/plain\n\nTVqQAAMAAAAEAAAA\n", Clean},
		"loader":                  {contentRules(t), part + "AAAAAAAAMzIuZABBBBBBB\n", BadLoaderType},
		"loader, over lines":      {contentRules(t), part + "AAAAAAAAMzI\nuZABBBBBBB\n", BadLoaderType},
		"loader, another first":   {other, part + "AAAAAAAAMzIuZABBBBBBB\n", Clean},
		"loader in text":          {contentRules(t), "Subject: MzIuZ\n\nMzIuZ\n", Clean},
		"blanks":                  {blanks, part + "AAAA BBBB\n", BlankInBase64},
		"blanks at line ends":     {blanks, part + "AAAA \nBBBB\t\n CCCC\n", Clean},
		"blanks, not asked":       {contentRules(t), part + "AAAA BBBB\n", Clean},
		"nested message":          {contentRules(t), "Content-Type: message/rfc822\n\nSubject: x\nContent-Transfer-Encoding: base64\n\nTVqQAAMAAAAEAAAA\n", BadMIMEType},
		"empty":                   {contentRules(t), "", Clean},
	} {
		for _, content := range []string{tt.content, strings.ReplaceAll(tt.content, "\n", "\r\n")} {
			for _, size := range []int{1, 2, 7, 4096} {
				s := NewContentScan(tt.rules)
				for rest := content; rest != ""; {
					n := min(size, len(rest))
					_, _ = s.Write([]byte(rest[:n]))
					rest = rest[n:]
				}
				if s.Found != tt.want {
					t.Errorf("%s in pieces of %d: %v, want %v", name, size, s.Found, tt.want)
				}
			}
		}
	}
}

// How content is cut into pieces changes nothing.
func TestContentScanPieces(t *testing.T) {
	rules := contentRules(t)
	rules.Blanks = true
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOf(rapid.SampledFrom([]string{
			"Content-Transfer-Encoding: base64\r\n", "\r\n", "\r\n", "TVqQAAMAA", "Mi5kb", " ", "--x\r\n", "AAAA", "\n", "\r", "Content-", "base64", "MQQQQQQQQQQQQQQQQQMi", "5kbAAAAAAAAAAA", "MMzIuAAAAAAAAAAAAAAAAAAAMzIu", "Z", "!",
		})).Draw(t, "content")
		content := []byte(strings.Join(parts, ""))
		whole := NewContentScan(rules)
		_, _ = whole.Write(content)
		pieces := NewContentScan(rules)
		for len(content) > 0 {
			n := rapid.IntRange(1, len(content)).Draw(t, "n")
			_, _ = pieces.Write(content[:n])
			content = content[n:]
		}
		if whole.Found != pieces.Found {
			t.Errorf("%v and %v", whole.Found, pieces.Found)
		}
		if len(pieces.line) > maxField || len(pieces.head) > MIMETypeLength {
			t.Error("it keeps too much")
		}
	})
}

func TestTypesErrors(t *testing.T) {
	if _, err := ParseMIMETypes("TVqQ\n"); err == nil {
		t.Error("a short one is taken")
	}
	if _, err := ParseMIMETypes("TVqQ AAMAA\n"); err == nil {
		t.Error("a blank is taken")
	}
	if _, err := ParseLoaderTypes("Mi5kb\nAi5kb\n"); err == nil {
		t.Error("different beginnings are taken")
	}
	a, b := contentRules(t), contentRules(t)
	if !a.Equal(b) || a.Equal(ContentRules{}) || !(ContentRules{}).Empty() || a.Empty() {
		t.Error("equality")
	}
}

func FuzzContentScan(f *testing.F) {
	f.Add([]byte(part + "TVqQAAMAAAAEAAAA\n"))
	rules := contentRules(f)
	f.Fuzz(func(t *testing.T, content []byte) {
		s := NewContentScan(rules)
		_, _ = s.Write(content)
		if s.Found == BadMIMEType && !strings.Contains(strings.ToLower(string(content)), "base64") {
			t.Error("found without base64")
		}
	})
}

func BenchmarkContentScan(b *testing.B) {
	rules := contentRules(b)
	content := []byte(part + strings.Repeat(strings.Repeat("QUJD", 19)+"\r\n", 128))
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		_, _ = NewContentScan(rules).Write(content)
	}
}
