package mail

import (
	"errors"
	"io"
	"strings"
	"testing"
)

func TestParseList(t *testing.T) {
	for list, want := range map[string]string{
		"a@x.example":                          "a@x.example",
		"root":                                 "root@here.example",
		"a@x.example, b@y.example":             "a@x.example b@y.example",
		"A <a@x.example>,\n\tB <b@y.example>,": "a@x.example b@y.example",
		`"Smith, J." <j@x.example>`:            "j@x.example",
		`(a, b) c@x.example (d \) e)`:          "c@x.example",
		"friends: a@x.example, B <b@y.example>; , c@z.example": "a@x.example b@y.example c@z.example",
		"undisclosed-recipients:;":                             "",
		"<@r.example,@s.example:a@x.example>":                  "a@x.example",
		`"a b"@x.example`:                                      `"a b"@x.example`,
		`"a@b"`:                                                `"a@b"@here.example`,
		"a@[192.0.2.1]":                                        "a@[192.0.2.1]",
		"A <root>":                                             "root@here.example",
		"":                                                     "",
	} {
		got, err := ParseList(list, "here.example")
		if err != nil || strings.Join(got, " ") != want && !(want == "" && len(got) == 0) {
			t.Errorf("%q: %q, %v", list, got, err)
		}
	}
	for _, bad := range []string{"a@", "@x.example", "a@b@c", "a@x..example"} {
		if got, err := ParseList(bad, "here.example"); err == nil {
			t.Errorf("%q became %q", bad, got)
		}
	}
}

func FuzzParseList(f *testing.F) {
	f.Add(`"Smith, J." <j@x.example>, friends: a@x, (c) d@e;`)
	f.Fuzz(func(t *testing.T, list string) {
		got, err := ParseList(list, "here.example")
		if err != nil {
			return
		}
		for _, a := range got {
			if strings.ContainsAny(a, "\r\n\x00") {
				t.Errorf("%q gave %q", list, a)
			}
		}
	})
}

// Without a host for them, addresses need a domain.
func TestParseListWithoutHost(t *testing.T) {
	if got, err := ParseList("a@x.example, root", ""); err == nil {
		t.Errorf("took %q", got)
	}
}

func TestFields(t *testing.T) {
	const header = "From ann Mon Jan  1 00:00:00 2026\nFrom: ann@x.example\r\nTo: a@x.example,\n b@x.example\nBCC: c@x.example\n"
	lines := strings.SplitAfter(header+"no field\nbody\n", "\n")
	next := func() ([]byte, error) {
		if len(lines) == 0 {
			return nil, io.EOF
		}
		line := lines[0]
		lines = lines[1:]
		return []byte(line), nil
	}
	h, rest, err := ReadFields(next, 1000)
	if err != nil || string(rest) != "no field\n" || len(h) != 3 {
		t.Fatalf("%q %q %v", h, rest, err)
	}
	if got := h.Sent(); got != "From: ann@x.example\nTo: a@x.example,\n b@x.example\n" {
		t.Errorf("%q", got)
	}
	if got := h.Recipients(); len(got) != 2 || got[1] != " c@x.example\n" {
		t.Errorf("%q", got)
	}
	again := append(h, Field{"Resent-To: d@x.example\n"})
	if got := again.Recipients(); len(got) != 1 {
		t.Errorf("sent again: %q", got)
	}
	lines = []string{"To: " + strings.Repeat("x", 1000)}
	if _, _, err := ReadFields(next, 1000); !errors.Is(err, ErrHeaderTooLong) {
		t.Error(err)
	}
}
