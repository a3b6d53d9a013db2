package smtp

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"qstream/mail"
)

func parse(in string) (mail.Status, []string, error) {
	return readReply(bufio.NewReaderSize(strings.NewReader(in), maxReplyLine+2))
}

func TestReadReply(t *testing.T) {
	for in, want := range map[string]mail.Status{
		"250 ok\r\n":                  {Code: 250, Text: "ok"},
		"250\r\n":                     {Code: 250},
		"250 \r\n":                    {Code: 250},
		"250 lone LF\n":               {Code: 250, Text: "lone LF"},
		"250-a\r\n250-b\r\n250 c\r\n": {Code: 250, Text: "a\nb\nc"},
		"550 5.1.1 no such user\r\n":  {Code: 550, Enhanced: "5.1.1", Text: "no such user"},
		"550-5.7.1 blocked\r\n550 5.7.1 see there\r\n": {Code: 550, Enhanced: "5.7.1", Text: "blocked\nsee there"},
		"450 5.1.1 of another class\r\n":               {Code: 450, Text: "5.1.1 of another class"},
		"250 2.1.5\r\n":                                {Code: 250, Enhanced: "2.1.5"},
		"250 2.1.5555 too long\r\n":                    {Code: 250, Text: "2.1.5555 too long"},
		"250 2..5 hole\r\n":                            {Code: 250, Text: "2..5 hole"},
		"250 \xff\xfe\r\n":                             {Code: 250, Text: "?"},
		"299 strange\r\n":                              {Code: 299, Text: "strange"},
	} {
		got, _, err := parse(in + "rest")
		if err != nil || got != want {
			t.Errorf("%q: got %+v, %v; want %+v", in, got, err, want)
		}
	}
}

func TestRefuseReply(t *testing.T) {
	for name, in := range map[string]string{
		"no code":           "hello\r\n",
		"empty line":        "\r\n",
		"HTTP":              "HTTP/1.1 400 Bad Request\r\n",
		"code 1yz":          "150 wait\r\n",
		"code 6yz":          "650 what\r\n",
		"four digits":       "2500 ok\r\n",
		"code changes":      "250-a\r\n550 b\r\n",
		"line without end":  "250 " + strings.Repeat("x", 100000),
		"line too long":     "250 " + strings.Repeat("x", maxReplyLine) + "\r\n",
		"lines without end": strings.Repeat("250-x\r\n", 100000),
	} {
		if s, _, err := parse(in); !errors.Is(err, errReply) {
			t.Errorf("%s: got %+v, %v", name, s, err)
		}
	}
	for _, in := range []string{"", "250", "250 ok", "250-a\r\n"} {
		if _, _, err := parse(in); !errors.Is(err, io.EOF) {
			t.Errorf("%q: %v, want EOF", in, err)
		}
	}
}

func FuzzReadReply(f *testing.F) {
	for _, s := range []string{"250 ok\r\n", "250-a\r\n250 b\r\n", "550 5.1.1 x\n", "\xff", "250-\r\n250\r\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		s, lines, err := parse(in)
		if err != nil {
			if s != (mail.Status{}) {
				t.Fatalf("a status beside an error: %+v", s)
			}
			return
		}
		switch {
		case s.Code < 200 || s.Code > 599:
			t.Fatalf("code %d", s.Code)
		case !utf8.ValidString(s.Text):
			t.Fatalf("text is not UTF-8: %q", s.Text)
		case len(s.Text) > maxReplyText || len(lines) > maxReplyLines:
			t.Fatalf("unbounded: %d bytes, %d lines", len(s.Text), len(lines))
		case s.Enhanced != "" && int(s.Enhanced[0]-'0') != s.Code/100:
			t.Fatalf("enhanced code %s contradicts %d", s.Enhanced, s.Code)
		}
	})
}
