package wire

import (
	"strings"
	"testing"
)

func TestAppendReply(t *testing.T) {
	for _, tt := range []struct {
		code           int
		enhanced, text string
		want           string
	}{
		{250, "2.0.0", "ok", "250 2.0.0 ok\r\n"},
		{354, "", "go ahead", "354 go ahead\r\n"},
		{250, "", "a\nb\nc", "250-a\r\n250-b\r\n250 c\r\n"},
		{550, "5.1.1", "a\nb", "550-5.1.1 a\r\n550 5.1.1 b\r\n"},
		{550, "5.1.1", "a\r\n250 ok\x00", "550-5.1.1 a \r\n550 5.1.1 250 ok \r\n"},
		{421, "4.3.2", "", "421 4.3.2 \r\n"},
		{550, "", strings.Repeat("x", 600), "550 " + strings.Repeat("x", maxReplyText) + "\r\n"},
	} {
		if got := string(AppendReply(nil, tt.code, tt.enhanced, tt.text)); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}
