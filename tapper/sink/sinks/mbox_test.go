package sinks_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"qstream/tapper/sink/sinktest"
)

// mailbox is a mailbox file with the note of a copy that was being written.
func mailbox(t *testing.T, text, id string, begin int) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "archive.mbox")
	note, err := json.Marshal(map[string]any{"id": id, "begin": begin, "end": 0, "whole": false})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{file: []byte(text), file + ".qstream": note} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return file
}

// TestTornMailbox: whatever a crash leaves of a copy, the first one or a later
// one, is cut off at the next start, and the copy is there once.
func TestTornMailbox(t *testing.T) {
	one, two := sinktest.Full(1, sinktest.Content(1)), sinktest.Full(2, sinktest.Content(2))
	for _, form := range []string{"raw", "report"} {
		t.Run(form, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "whole.mbox")
			s := open(t, "mbox:"+file+" form="+form)
			put(t, s, one)
			first := readAll(t, file)[0]
			put(t, s, two)
			both := readAll(t, file)[0]
			goes := func(left, id string, begin int) {
				t.Helper()
				file := mailbox(t, left, id, begin)
				again := open(t, "mbox:"+file+" form="+form)
				c, want := two, both
				if id == one.ID {
					c, want = one, first
				}
				put(t, again, c)
				if got := readAll(t, file)[0]; got != want {
					t.Fatalf("of %d octets came\n%s\nwant\n%s", len(left), got, want)
				}
			}
			for n := 0; n <= len(first); n++ {
				if form == "raw" || n < 100 || n%17 == 0 {
					goes(first[:n], one.ID, 0)
				}
			}
			for n := len(first); n <= len(both); n += 23 {
				goes(both[:n], two.ID, len(first))
			}
			// The file has its length, and a part of its octets.
			for n := 0; n < len(first); n += 97 {
				goes(first[:n]+strings.Repeat("\x00", len(first)-n), one.ID, 0)
			}
		})
	}
}

// TestForeignMailbox: what somebody else wrote is never cut off.
func TestForeignMailbox(t *testing.T) {
	c := sinktest.Full(1, sinktest.Content(1))
	for name, text := range map[string]string{
		"no mailbox":   "Hello\n",
		"one octet":    "G",
		"a mail":       "From joe@sender.example Sun Mar  1 12:00:00 2026\nSubject: mine\n\nbody\n\n",
		"another's":    "From joe@sender.example Sun Mar  1 12:00:00 2026\nX-Qstream-Copy: acme.other\n\nbody\n\n",
		"with zeros":   "From joe@sender.example Sun Mar  1 12:00:00 2026\nSubject: mine\n\nbody\x00\n\n",
		"behind zeros": strings.Repeat("\x00", 100) + "From joe@sender.example Sun Mar  1 12:00:00 2026\nSubject: mine\n\nbody\n\n",
		"far behind":   "From qs" + strings.Repeat("\x00", 200_000) + "From joe@sender.example Sun Mar  1 12:00:00 2026\nSubject: mine\n\nbody\n\n",
		"long header":  "From joe@sender.example Sun Mar  1 12:00:00 2026\nSubject: " + strings.Repeat("mine ", 1000) + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			file := mailbox(t, text, c.ID, 0)
			err := open(t, "mbox:"+file).Put(t.Context(), c)
			if err == nil || !strings.Contains(err.Error(), "somebody wrote") {
				t.Errorf("%v", err)
			}
			if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, []byte(text)) {
				t.Errorf("it is now (%v)\n%s", err, got)
			}
		})
	}
}
