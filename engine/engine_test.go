package engine_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"qstream/engine"
)

func TestNothingIsSaidByNothing(t *testing.T) {
	var v engine.Verdict
	if v.Outcome != engine.Failed || v.Bad() {
		t.Errorf("the zero verdict is %v", v.Outcome)
	}
}

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		" Eicar\r\nX-Evil: 1\x1b[2J ": "Eicar  X-Evil: 1 [2J",
		"ü":                           "ü",
		"a\xff":                       "a",
	} {
		if got := engine.Text(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
	for n := range 8 {
		got := engine.Text(strings.Repeat("x", n) + strings.Repeat("漢😀", 200))
		if len(got) > engine.MaxText || len(got) < engine.MaxText-utf8.UTFMax || !utf8.ValidString(got) {
			t.Errorf("%d: %d bytes, %q", n, len(got), got[len(got)-8:])
		}
	}
}

func TestWordsAreClosedSets(t *testing.T) {
	for o := engine.Failed; o <= engine.Encrypted; o++ {
		if o.String() == "" {
			t.Errorf("outcome %d has no word", o)
		}
	}
	for r := engine.Unreachable; r <= engine.Message; r++ {
		if r.String() == "" {
			t.Errorf("reason %d has no word", r)
		}
	}
}

func TestChangesAreOneField(t *testing.T) {
	for in, want := range map[string]string{
		"yes":                             "yes",
		" yes ":                           "yes",
		"a\r\n\tb":                        "a\r\n\tb",
		"a\nb\r\n\r\nc":                   "a\r\n\tb\r\n\tc",
		"a\r\n \r\nBcc: x@client.example": "a\r\n\tBcc: x@client.example",
		"a\x00\x1bb":                      "a  b",
		"":                                "",
	} {
		c, err := engine.NewChange(engine.AddField, 0, "X-Spam", in)
		if err != nil || c.Value != want {
			t.Errorf("%q becomes %q (%v), want %q", in, c.Value, err, want)
		}
	}
	for _, name := range []string{"", "X Y", "X:", "X\r\nY", "ü", strings.Repeat("x", 100)} {
		if _, err := engine.NewChange(engine.AddField, 0, name, ""); err == nil {
			t.Errorf("%q is taken for a name", name)
		}
	}
	if _, err := engine.NewChange(engine.AddField, 0, "X", strings.Repeat("x", 1<<20)); err == nil {
		t.Error("a megabyte is taken for a value")
	}
}
