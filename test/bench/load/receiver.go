package load

import (
	"bytes"
	"hash/crc32"
	"net"
	"sync"
	"time"
)

// receiver serves one connection of a sink. It answers a batch of pipelined
// commands with one write and looks at content where the kernel put it.
type receiver struct {
	server  *server
	conn    net.Conn
	host    uint16
	profile Profile

	buf   []byte
	r, w  int    // what of buf is unread
	out   []byte // replies to be written
	rcpts []uint16
	mail  check
}

// check is the state of a checksum while content comes.
type check struct {
	named bool
	id    uint64
	want  uint32
	crc   uint32
}

// buffers are those of connections that have ended.
var buffers = sync.Pool{New: func() any { b := make([]byte, 128<<10); return &b }}

var (
	crlfDot = []byte("\r\n.")
	crlf    = []byte("\r\n")
)

const greeting = "250-sink.example\r\n250-PIPELINING\r\n250-SIZE 104857600\r\n250 8BITMIME\r\n"

func (c *receiver) run() {
	b := buffers.Get().(*[]byte)
	defer buffers.Put(b)
	c.buf = *b
	time.Sleep(c.profile.Banner)
	c.out = append(c.out, "220 sink.example ESMTP\r\n"...)
	for {
		line, ok := c.line()
		if !ok || !c.command(line) {
			break
		}
	}
	_ = c.flush()
}

// line is the next command. Replies are written before it waits.
func (c *receiver) line() ([]byte, bool) {
	for {
		if end := bytes.IndexByte(c.buf[c.r:c.w], '\n'); end >= 0 {
			line := c.buf[c.r : c.r+end]
			c.r += end + 1
			return line, true
		}
		if !c.more() {
			return nil, false
		}
	}
}

// more writes what is to be written and reads at least a byte.
func (c *receiver) more() bool {
	if !c.flush() {
		return false
	}
	c.w = copy(c.buf, c.buf[c.r:c.w])
	c.r = 0
	if c.w == len(c.buf) {
		return false // no line is that long
	}
	n, err := c.conn.Read(c.buf[c.w:])
	c.w += n
	if c.profile.Rate > 0 {
		time.Sleep(time.Duration(n) * time.Second / time.Duration(c.profile.Rate))
	}
	return err == nil
}

func (c *receiver) flush() bool {
	if len(c.out) == 0 {
		return true
	}
	_, err := c.conn.Write(c.out)
	c.out = c.out[:0]
	return err == nil
}

// command answers one command; false ends the connection.
func (c *receiver) command(line []byte) bool {
	if len(line) < 4 {
		c.say("500 5.5.2 what?")
		return true
	}
	switch string(bytes.ToUpper(line[:4])) {
	case "EHLO":
		c.out = append(c.out, greeting...)
	case "HELO", "NOOP":
		c.say("250 sink.example")
	case "RSET", "MAIL":
		c.rcpts = c.rcpts[:0]
		c.say("250 2.1.0 ok")
	case "RCPT":
		if c.profile.Rcpt != "" {
			c.say(c.profile.Rcpt)
			break
		}
		c.rcpts = append(c.rcpts, which(line))
		c.say("250 2.1.5 ok")
	case "DATA":
		if len(c.rcpts) == 0 {
			c.say("503 5.5.1 no recipients")
			break
		}
		c.say("354 go on")
		return c.data()
	case "QUIT":
		c.say("221 2.0.0 bye")
		return false
	default:
		c.say("502 5.5.1 unknown")
	}
	return true
}

func (c *receiver) say(reply string) {
	c.out = append(append(c.out, reply...), crlf...)
}

// which is the number in RCPT TO:<uNUMBER@...>.
func which(line []byte) uint16 {
	n := uint16(0)
	if i := bytes.IndexByte(line, '<'); i > 0 && i+2 < len(line) {
		for _, d := range line[i+2:] {
			if d < '0' || d > '9' {
				break
			}
			n = n*10 + uint16(d-'0')
		}
	}
	return n
}

// data takes content up to the final dot.
func (c *receiver) data() bool {
	c.mail = check{}
	for {
		// Whole lines only: a line's start tells whether it begins with a dot.
		if end := bytes.LastIndexByte(c.buf[c.r:c.w], '\n'); end >= 0 {
			n, done := c.mail.take(c.buf[c.r : c.r+end+1])
			c.r += n
			if done {
				return c.finish()
			}
		}
		if !c.more() {
			return false
		}
	}
}

func (c *receiver) finish() bool {
	if c.profile.Data > 0 {
		time.Sleep(c.profile.Data)
	}
	if c.profile.Reply != "" {
		c.say(c.profile.Reply)
		return true
	}
	c.server.arrive(Arrival{ID: c.mail.id, Host: c.host, Corrupt: c.mail.crc != c.mail.want}, c.rcpts, c.mail.named)
	c.rcpts = c.rcpts[:0]
	c.say("250 2.0.0 ok")
	return true
}

// take looks at whole lines, and tells how many bytes of them belong to the
// mail and whether the final dot was the last of these.
func (k *check) take(block []byte) (n int, done bool) {
	for !k.named {
		if n == len(block) {
			return n, false
		}
		end := n + bytes.IndexByte(block[n:], '\n') + 1
		line := block[n:end]
		if len(line) == 3 && line[0] == '.' {
			return end, true
		}
		n = end
		if value, ok := bytes.CutPrefix(line, []byte(idHeader)); ok {
			k.id, k.want, k.named = identity(value)
			if !k.named {
				break // damaged; what follows is read to its end all the same
			}
		}
	}
	for {
		if n == len(block) {
			return n, false
		}
		if block[n] == '.' {
			if bytes.HasPrefix(block[n+1:], crlf) {
				return n + 3, true
			}
			n++
		}
		dot := bytes.Index(block[n:], crlfDot)
		if dot < 0 {
			k.crc = crc32.Update(k.crc, sum, block[n:])
			return len(block), false
		}
		k.crc = crc32.Update(k.crc, sum, block[n:n+dot+2])
		n += dot + 2
	}
}
