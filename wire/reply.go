package wire

import (
	"strconv"
	"strings"
)

// maxReplyText keeps a reply line within the 512 octets of RFC 5321 4.5.3.1.5,
// with code, enhanced code and CRLF.
const maxReplyText = 490

// AppendReply appends a reply to dst, one line for each line of text, each
// with the enhanced code unless that is empty (RFC 2034 4). Control characters
// in text become spaces; over-long lines are cut.
func AppendReply(dst []byte, code int, enhanced, text string) []byte {
	for {
		line, more, multi := strings.Cut(text, "\n")
		dst = strconv.AppendInt(dst, int64(code), 10)
		if multi {
			dst = append(dst, '-')
		} else {
			dst = append(dst, ' ')
		}
		if enhanced != "" {
			dst = append(append(dst, enhanced...), ' ')
		}
		dst = append(appendPrintable(dst, line), crlf...)
		if !multi {
			return dst
		}
		text = more
	}
}

func appendPrintable(dst []byte, line string) []byte {
	if len(line) > maxReplyText {
		line = line[:maxReplyText]
	}
	for i := 0; i < len(line); i++ {
		c := line[i]
		if c < ' ' || c == 0x7f {
			c = ' '
		}
		dst = append(dst, c)
	}
	return dst
}
