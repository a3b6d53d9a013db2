package load

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strconv"
	"strings"
)

// idHeader is the first header field of every mail. What a mail system writes
// stands above it; the checksum is of all that follows its line.
const idHeader = "X-Bench-Id: "

// idLine is the length of the whole line: 16 digits, a dash, 8 digits, CRLF.
const idLine = len(idHeader) + 16 + 1 + 8 + 2

// sum is the checksum; processors have an instruction for it.
var sum = crc32.MakeTable(crc32.Castagnoli)

// Mails are the contents that a source sends: MIME messages of one size, in
// some variants so that a system that compresses finds no mail twice in a row.
// They are safe for concurrent use.
type Mails struct {
	Size     int // bytes of a whole message as handed in, about
	variants []variant
}

// variant is a body as it is and as it travels: with dots doubled and the
// final dot.
type variant struct{ plain, stuffed []byte }

// pool is how many bytes of bodies are made at most.
const pool = 24 << 20

// NewMails makes the contents. Up to 64 KiB they are text and HTML, above that
// text and an attachment in base64.
func NewMails(size int) *Mails {
	m := &Mails{Size: size}
	rng := rand.New(rand.NewPCG(7, uint64(size)))
	n := min(max(pool/max(size, 1), 1), 256)
	for range n {
		plain := body(rng, size-headSize)
		stuffed := bytes.ReplaceAll(plain, []byte("\r\n."), []byte("\r\n.."))
		if plain[0] == '.' {
			stuffed = append([]byte("."), stuffed...)
		}
		m.variants = append(m.variants, variant{plain: plain, stuffed: append(stuffed, ".\r\n"...)})
	}
	return m
}

// headSize is about what the header takes.
const headSize = 360

const boundary = "=_bench_7f3a9c"

// words are what texts are made of.
var words = strings.Fields(`the of and to in is that for it as was with be by on not he his but at are this have from
	or had an they which one you were all her she there would their we him been has when who will no more if out so up said
	what its about than into them can only other time new some could these two may first then do any like my now over such
	our man me even most made after also did many off before must well back through years much where your way down should
	because long each just state those people too mister good very make world still see own work men day get here between
	invoice delivery meeting account please attached regards shipment order number quarter report figures contract`)

// body is a MIME body of about size bytes, lines ended by CRLF.
func body(rng *rand.Rand, size int) []byte {
	var b bytes.Buffer
	part := func(kind string) {
		fmt.Fprintf(&b, "--%s\r\nContent-Type: %s\r\n", boundary, kind)
	}
	part("text/plain; charset=us-ascii\r\nContent-Transfer-Encoding: 7bit\r\n")
	if size <= 64<<10 {
		text(&b, rng, size/3, "")
		part("text/html; charset=us-ascii\r\nContent-Transfer-Encoding: 7bit\r\n")
		text(&b, rng, size-b.Len()-40, "<p>")
	} else {
		text(&b, rng, 2000, "")
		part("application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n")
		attachment(&b, rng, size-b.Len()-40)
	}
	fmt.Fprintf(&b, "--%s--\r\n", boundary)
	return b.Bytes()
}

// text writes lines of words; one in forty begins with a dot.
func text(b *bytes.Buffer, rng *rand.Rand, size int, mark string) {
	for end := b.Len() + size; b.Len() < end; {
		if rng.IntN(40) == 0 {
			b.WriteByte('.')
		}
		b.WriteString(mark)
		for line := b.Len() + 66; b.Len() < line; b.WriteByte(' ') {
			b.WriteString(words[rng.IntN(len(words))])
		}
		b.WriteString(strconv.Itoa(rng.IntN(10000)) + "\r\n")
	}
}

// attachment writes random bytes as lines of base64.
func attachment(b *bytes.Buffer, rng *rand.Rand, size int) {
	raw := make([]byte, 57)
	for end := b.Len() + size; b.Len() < end; {
		for i := range raw {
			raw[i] = byte(rng.Uint32())
		}
		b.WriteString(base64.StdEncoding.EncodeToString(raw))
		b.WriteString("\r\n")
	}
}

// content appends the header of the mail with this number to buf and returns
// it with the body, both as they travel after DATA.
func (m *Mails) content(buf []byte, id uint64, from, to string) (header, body []byte) {
	v := m.variants[id%uint64(len(m.variants))]
	start := len(buf)
	buf = append(buf, idHeader...)
	buf = digits(buf, id, 16)
	buf = append(buf, '-')
	checksum := len(buf)
	buf = append(buf, "00000000\r\nDate: Mon, 5 Jan 2026 09:30:00 +0000\r\nFrom: Load <"...)
	buf = append(append(buf, from...), ">\r\nTo: <"...)
	buf = append(append(buf, to...), ">\r\nMessage-ID: <"...)
	buf = digits(buf, id, 16)
	buf = append(buf, ".bench@client.example>\r\nSubject: Delivery report number "...)
	buf = strconv.AppendUint(buf, id, 10)
	buf = append(buf, "\r\nUser-Agent: bench\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\""+boundary+"\"\r\n\r\n"...)
	crc := crc32.Update(crc32.Checksum(buf[start+idLine:], sum), sum, v.plain)
	digits(buf[:checksum], uint64(crc), 8)
	return buf, v.stuffed
}

// digits appends the last n hexadecimal digits of v.
func digits(buf []byte, v uint64, n int) []byte {
	for shift := 4 * (n - 1); shift >= 0; shift -= 4 {
		buf = append(buf, "0123456789abcdef"[v>>shift&15])
	}
	return buf
}

// identity reads what stands in an id header line after its name.
func identity(line []byte) (id uint64, crc uint32, ok bool) {
	if len(line) < idLine-len(idHeader)-2 || line[16] != '-' {
		return 0, 0, false
	}
	id, ok1 := number(line[:16])
	c, ok2 := number(line[17:25])
	return id, uint32(c), ok1 && ok2
}

func number(hex []byte) (v uint64, ok bool) {
	for _, c := range hex {
		switch {
		case c >= '0' && c <= '9':
			v = v<<4 | uint64(c-'0')
		case c >= 'a' && c <= 'f':
			v = v<<4 | uint64(c-'a'+10)
		default:
			return 0, false
		}
	}
	return v, true
}
