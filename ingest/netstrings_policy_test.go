package ingest

import (
	"strings"
	"testing"

	"qstream/bus/bustest"
)

// Content that comes before its envelope is held to the recipients' policy.
func TestNetstringsPolicy(t *testing.T) {
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
