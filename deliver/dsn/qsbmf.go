package dsn

import (
	"bytes"
	"strings"
)

// QSBMF is the report in the qmail-send bounce message format: an opening
// paragraph, one for each recipient, a line that begins with "-", and the
// message after a Return-Path line. Only failures have it.
func QSBMF(r Report) []byte {
	var b bytes.Buffer
	b.WriteString(r.header())
	b.WriteString("MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n")
	b.WriteString(para("Hi. This is the mail system at "+plain(r.Me, true)+".", ""))
	b.WriteString(para(r.opening(), "") + "\r\n")
	for _, c := range r.Recipients {
		// An address can't end its line, a reason can't end its paragraph.
		b.WriteString("<" + atom(c.Address, true) + ">:\r\n")
		b.WriteString(noDash(para(c.reason(), "")) + "\r\n")
	}
	if r.Original.Full {
		b.WriteString("--- Below this line is a copy of the message.\r\n\r\n")
	} else {
		b.WriteString("--- Below this line is the header of the message.\r\n\r\n")
	}
	b.WriteString("Return-Path: <" + atom(r.ReversePath, true) + ">\r\n")
	b.Write(r.Original.Data)
	if r.Original.Cut {
		b.WriteString("\r\n--- Rest of the header not shown.\r\n")
	}
	return b.Bytes()
}

// noDash keeps a line of a reason from looking like the break paragraph.
func noDash(text string) string {
	lines := strings.SplitAfter(text, "\r\n")
	for i, l := range lines {
		if strings.HasPrefix(l, "-") || strings.HasPrefix(l, "<") {
			lines[i] = " " + l
		}
	}
	return strings.Join(lines, "")
}
