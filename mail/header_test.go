package mail

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestHeaderScan(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		hops     int
		id       string
		from     bool
	}{
		{"plain", "Received: a\r\nReceived: b\r\nFrom: c\r\nMessage-ID: <x@y>\r\n\r\nReceived: body\r\n", 2, "<x@y>", true},
		{"folded id", "Message-Id:\r\n <x@y>\r\nFrom: c\r\n", 0, "<x@y>", true},
		{"fold elsewhere", "Message-ID: <a>\r\nSubject: b\r\n c\r\n\r\n", 0, "<a>", false},
		{"first id counts", "Message-ID: <a>\r\nMessage-ID: <b>\r\n\r\n", 0, "<a>", false},
		{"space before colon", "RECEIVED : a\r\n\r\n", 1, "", false},
		{"mbox line", "From a@b Mon\r\nReceived: a\r\n\r\n", 1, "", false},
		{"quoted mbox line", ">From a@b Mon\r\nReceived: a\r\n\r\n", 1, "", false},
		{"no header", "hello\r\nReceived: a\r\n", 0, "", false},
		{"starts with a fold", " x\r\nReceived: a\r\n", 0, "", false},
		{"body at once", "\r\nReceived: a\r\n", 0, "", false},
		{"broken field ends it", "Received: a\r\nno colon\r\nReceived: b\r\n", 1, "", false},
		{"not UTF-8", "Message-ID: <\xff>\r\n\r\n", 0, "<\uFFFD>", false},
		{"long", "X: " + strings.Repeat("a", 5000) + "\r\nReceived: a\r\n\r\n", 1, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, step := range []int{1, 7, len(tt.in)} {
				var h HeaderScan
				for in := tt.in; in != ""; {
					n := min(step, len(in))
					_, _ = h.Write([]byte(in[:n]))
					in = in[n:]
				}
				if h.Received != tt.hops || h.MessageID() != tt.id || h.HasFrom != tt.from {
					t.Errorf("step %d: %d %q %v", step, h.Received, h.MessageID(), h.HasFrom)
				}
			}
		})
	}
}

func FuzzHeaderScan(f *testing.F) {
	f.Add("Received: a\r\nMessage-ID: <x>\r\n y\r\n\r\nbody", 3)
	f.Fuzz(func(t *testing.T, in string, cut int) {
		var whole, parts HeaderScan
		_, _ = whole.Write([]byte(in))
		cut = min(max(cut, 0), len(in))
		_, _ = parts.Write([]byte(in[:cut]))
		_, _ = parts.Write([]byte(in[cut:]))
		if whole.Received != parts.Received || whole.MessageID() != parts.MessageID() {
			t.Fatalf("cut at %d: %+v, %+v", cut, whole, parts)
		}
		if len(whole.messageID) > lineKept || !utf8.ValidString(whole.MessageID()) {
			t.Fatalf("message id %q", whole.MessageID())
		}
	})
}
