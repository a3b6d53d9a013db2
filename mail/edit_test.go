package mail

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/mail"
	"strings"
	"testing"
	"testing/iotest"
)

const edited = "Received: by one\r\n\tfor two\r\nSubject: hello\r\nX-Spam: a\r\nx-spam: b\r\nX-Last: z\r\n"

func TestEditHeader(t *testing.T) {
	for _, c := range []struct {
		name  string
		edits []Edit
		want  string
	}{
		{"nothing", nil, edited},
		{"add", []Edit{{EditAdd, 0, "A", "1"}, {EditAdd, 0, "B", "2\r\n\tmore"}}, edited + "A: 1\r\nB: 2\r\n\tmore\r\n"},
		{"insert in front", []Edit{{EditInsert, 0, "A", "1"}, {EditInsert, 0, "B", "2"}}, "B: 2\r\nA: 1\r\n" + edited},
		{"insert within", []Edit{{EditInsert, 1, "A", "1"}}, strings.Replace(edited, "Subject", "A: 1\r\nSubject", 1)},
		{"insert beyond", []Edit{{EditInsert, 99, "A", "1"}, {EditAdd, 0, "B", "2"}}, edited + "A: 1\r\nB: 2\r\n"},
		{"replace", []Edit{{EditReplace, 2, "X-SPAM", "c"}}, strings.Replace(edited, "x-spam: b", "X-SPAM: c", 1)},
		{"replace what isn't there", []Edit{{EditReplace, 3, "X-Spam", "c"}}, edited + "X-Spam: c\r\n"},
		{"replace the subject of none", []Edit{{EditReplace, 1, "Comments", "*** SPAM ***"}}, edited + "Comments: *** SPAM ***\r\n"},
		{"replace twice what isn't there", []Edit{{EditReplace, 1, "Comments", "a"}, {EditReplace, 1, "comments", "b"}}, edited + "comments: b\r\n"},
		{"prefix of what was added", []Edit{{EditReplace, 1, "Comments", "a"}, {EditPrefix, 0, "Comments", "[spam]"}}, edited + "Comments: [spam] a\r\n"},
		{"replace none", []Edit{{EditReplace, 0, "X-Spam", "c"}}, edited},
		{"delete one", []Edit{{EditDelete, 1, "x-spam", ""}}, strings.Replace(edited, "X-Spam: a\r\n", "", 1)},
		{"delete all", []Edit{{EditDelete, 0, "X-Spam", ""}}, strings.Replace(edited, "X-Spam: a\r\nx-spam: b\r\n", "", 1)},
		{"counted as before", []Edit{{EditDelete, 1, "X-Spam", ""}, {EditReplace, 2, "X-Spam", "c"}, {EditAdd, 0, "X-Spam", "d"}},
			strings.Replace(edited, "X-Spam: a\r\nx-spam: b\r\n", "X-Spam: c\r\n", 1) + "X-Spam: d\r\n"},
		{"insert before what is deleted", []Edit{{EditDelete, 0, "X-Last", ""}, {EditInsert, 4, "A", "1"}}, strings.Replace(edited, "X-Last: z", "A: 1", 1)},
		{"prefix", []Edit{{EditPrefix, 0, "Subject", "[spam] "}}, strings.Replace(edited, "hello", "[spam] hello", 1)},
		{"prefix twice", []Edit{{EditPrefix, 0, "Subject", "[spam] "}, {EditPrefix, 0, "Subject", "[spam]"}}, strings.Replace(edited, "hello", "[spam] hello", 1)},
		{"prefix of none", []Edit{{EditPrefix, 0, "Comments", "[spam] "}}, edited + "Comments: [spam]\r\n"},
		{"prefix of what is deleted", []Edit{{EditDelete, 0, "Subject", ""}, {EditPrefix, 0, "Subject", "[spam]"}},
			strings.Replace(edited, "Subject: hello\r\n", "", 1) + "Subject: [spam]\r\n"},
		{"no name", []Edit{{EditDelete, 0, "", ""}, {EditReplace, 1, "", "x"}}, edited},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := []byte(edited)
			if got := string(EditHeader(in, c.edits)); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
			if string(in) != edited {
				t.Error("the header itself was changed")
			}
		})
	}
	if got := string(EditHeader(nil, []Edit{{EditInsert, 3, "A", "1"}, {EditDelete, 0, "A", ""}})); got != "A: 1\r\n" {
		t.Errorf("an empty header becomes %q", got)
	}
}

// A prefix is shown in front of whatever the subject is, encoded or not.
func TestPrefixIsShown(t *testing.T) {
	var decoder mime.WordDecoder
	for _, prefix := range []string{"[spam]", "[spam] ", "[ünseriös]", "[迷惑メール] "} {
		for _, subject := range []string{"hello", "=?utf-8?q?gr=C3=BC=C3=9Fe?=", "=?utf-8?b?w7w=?=\r\n =?utf-8?b?w7w=?=", "\r\n folded", "", strings.Repeat("long ", 30)} {
			out := EditHeader([]byte("Subject: "+subject+"\r\n"), []Edit{{EditPrefix, 0, "Subject", prefix}})
			m, err := mail.ReadMessage(bytes.NewReader(append(out, "\r\nbody"...)))
			if err != nil {
				t.Errorf("%q: %v", out, err)
				continue
			}
			got, err := decoder.DecodeHeader(m.Header.Get("Subject"))
			plain, _ := decoder.DecodeHeader(strings.TrimSpace(strings.ReplaceAll(subject, "\r\n", "")))
			want := strings.TrimSpace(prefix) + " " + plain
			if err != nil || strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(want), " ") {
				t.Errorf("%q before %q is shown as %q (%v)", prefix, subject, got, err)
			}
		}
	}
}

func TestReadHeader(t *testing.T) {
	for in, want := range map[string]string{
		"A: 1\r\nB: 2\r\n\tmore\r\n\r\nbody": "A: 1\r\nB: 2\r\n\tmore\r\n",
		"A: 1\r\nno field\r\n\r\n":           "A: 1\r\n",
		"From me\r\nA: 1\r\n\r\n":            "From me\r\nA: 1\r\n",
		"A: 1\r\nFrom me\r\n":                "A: 1\r\n",
		"no header":                          "",
		"":                                   "",
		"\r\nbody":                           "",
		" A: 1\r\n\r\n":                      "",
		"A: 1":                               "",
		"A: " + strings.Repeat("x", 5000) + "\r\n\r\n": "A: " + strings.Repeat("x", 5000) + "\r\n",
	} {
		got, err := ReadHeader(iotest.HalfReader(strings.NewReader(in)), 6000)
		if err != nil || string(got) != want {
			t.Errorf("%.40q: %.40q, %v", in, got, err)
		}
	}
	if _, err := ReadHeader(strings.NewReader("A: "+strings.Repeat("x", 6000)), 6000); !errors.Is(err, ErrLongHeader) {
		t.Errorf("a long header: %v", err)
	}
	broken := io.MultiReader(strings.NewReader("A: 1\r\n"), iotest.ErrReader(io.ErrUnexpectedEOF))
	if _, err := ReadHeader(broken, 6000); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a broken reader: %v", err)
	}
}

func FuzzEditHeader(f *testing.F) {
	f.Add([]byte(edited), 1, "X-Spam", "v")
	f.Add([]byte(" x\r\n:\r\n\n"), 0, "", "")
	f.Fuzz(func(t *testing.T, header []byte, index int, name, value string) {
		if got := EditHeader(header, nil); !bytes.Equal(got, header) {
			t.Fatalf("nothing to do makes %q of %q", got, header)
		}
		for kind := EditAdd; kind <= EditPrefix; kind++ {
			EditHeader(header, []Edit{{kind, index, name, value}, {kind, index, name, value}})
		}
		if h, err := ReadHeader(bytes.NewReader(header), 1<<16); err == nil && !bytes.HasPrefix(header, h) {
			t.Fatalf("the header of %q is %q", header, h)
		}
	})
}
