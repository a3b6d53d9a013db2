package smtp

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"strings"

	"qstream/mail"
)

// Bounds of a reply. RFC 5321 4.5.3.1.5 allows 512 octets a line; more is
// common in EHLO replies and in long explanations.
const (
	maxReplyLine  = 2048
	maxReplyLines = 128
	maxReplyText  = 4096 // of text kept in a status
)

// errReply is a peer that doesn't speak SMTP; the session can't go on, since
// nobody knows which command the next line answers.
var errReply = errors.New("not an SMTP reply")

// readReply reads one reply, which may have many lines (RFC 5321 4.2.1). All
// lines must carry the same code. A lone LF is taken as the end of a line. An
// enhanced code is taken off each line (RFC 2034 4).
func readReply(r *bufio.Reader) (mail.Status, []string, error) {
	var s mail.Status
	var lines []string
	for {
		line, err := replyLine(r)
		if err != nil {
			return mail.Status{}, nil, err
		}
		code, more, text, ok := splitReply(line)
		if !ok || s.Code != 0 && code != s.Code {
			return mail.Status{}, nil, fmt.Errorf("%w: %q", errReply, clip(line, 80))
		}
		s.Code = code
		lines = append(lines, strings.ToValidUTF8(string(text), "?"))
		if len(lines) > maxReplyLines {
			return mail.Status{}, nil, fmt.Errorf("%w: more than %d lines", errReply, maxReplyLines)
		}
		if !more {
			break
		}
	}
	texts := make([]string, len(lines))
	for i, line := range lines {
		enhanced, rest := splitEnhanced(s.Code, line)
		if i == 0 {
			s.Enhanced = enhanced
		}
		texts[i] = rest
	}
	s.Text = strings.ToValidUTF8(clip([]byte(strings.Join(texts, "\n")), maxReplyText), "")
	return s, lines, nil
}

// replyLine is one line without its end.
func replyLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) || len(line) > maxReplyLine {
		return nil, fmt.Errorf("%w: a line above %d octets", errReply, maxReplyLine)
	}
	if err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(line[:len(line)-1], []byte{'\r'}), nil
}

// splitReply splits "250-text", "250 text" and "250".
func splitReply(line []byte) (code int, more bool, text []byte, ok bool) {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' || !digit(line[1]) || !digit(line[2]) {
		return 0, false, nil, false
	}
	code = int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
	if len(line) == 3 {
		return code, false, nil, true
	}
	if line[3] != ' ' && line[3] != '-' {
		return 0, false, nil, false
	}
	return code, line[3] == '-', line[4:], true
}

// splitEnhanced takes "5.1.1" off the text if it is of the code's class
// (RFC 2034 4): a code that contradicts the reply is only text.
func splitEnhanced(code int, text string) (enhanced, rest string) {
	word, rest, _ := strings.Cut(text, " ")
	parts := strings.Split(word, ".")
	if len(parts) != 3 || len(parts[0]) != 1 || int(parts[0][0]-'0') != code/100 {
		return "", text
	}
	for _, p := range parts[1:] {
		if len(p) < 1 || len(p) > 3 || strings.Trim(p, "0123456789") != "" {
			return "", text
		}
	}
	return word, strings.TrimLeft(rest, " ")
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

func clip(b []byte, n int) string { return string(b[:min(len(b), n)]) }
