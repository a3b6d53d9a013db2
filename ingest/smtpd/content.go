package smtpd

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/emersion/go-smtp"

	"qstream/wire"
)

// drainLimit is how much content is read behind a refusal, above the size
// limit, before the connection is cut.
const drainLimit = 64 << 20

// body is the content that a session reads. It keeps the error that ended
// it, so that a session that overlooks one does no harm.
type body struct {
	read func([]byte) (int, error)
	err  error
}

func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.read(p)
	if err != nil {
		b.err = contentError(err)
	}
	return n, b.err
}

// contentError is what the client is told about its content, if anything.
func contentError(err error) error {
	if err == io.EOF { // nearly always; the rest costs memory
		return err
	}
	var stray *wire.StrayError
	switch {
	case errors.As(err, &stray):
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 5, 2}, Message: stray.Error() + " in message"}
	case errors.Is(err, wire.ErrLineTooLong):
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 6, 0}, Message: "line too long in message"}
	}
	return err
}

// lost reports an error after which nobody can be told anything, or nothing
// more can be understood: the stream's own.
func lost(err error) bool {
	return err != nil && !errors.Is(err, io.EOF) && !errors.As(err, new(*smtp.SMTPError))
}

func (c *conn) data(arg string) {
	if arg != "" {
		c.protocolError(501, "5.5.4", "no argument is allowed")
		c.outOfStep()
		return
	}
	if !c.deliverable() {
		c.outOfStep()
		return
	}
	c.reply(354, "", "end data with <CR><LF>.<CR><LF>")
	defer c.Pace()()
	data := c.in.Data(c.textOptions())
	b := &body{read: data.Read}
	err := c.take(b)
	if !lost(b.err) {
		if drained := data.Drain(c.cfg.MaxSize + drainLimit); errors.Is(drained, wire.ErrTooMuch) {
			c.cut()
		} else if drained != nil {
			b.err = drained
		}
	}
	c.settle(b, err)
}

// outOfStep ends the dialogue with a client that sent more behind a DATA that
// is refused: DATA ends a group of commands (RFC 2920 3.1), and nobody can
// tell whether that is commands, or content in which somebody wrote some.
func (c *conn) outOfStep() {
	if c.in.Buffered() == 0 || c.closing {
		return
	}
	c.reply(421, "4.7.0", "speak when you are answered")
	c.cutFor(endAhead)
}

// take hands content to the session.
func (c *conn) take(b *body) error {
	err := c.session.Data(b)
	if err == nil && b.err != nil && !errors.Is(b.err, io.EOF) {
		return b.err // the session overlooked it
	}
	return err
}

// settle answers the end of content and ends the transaction.
func (c *conn) settle(b *body, err error) {
	switch {
	case lost(b.err):
		c.giveUp(b.err)
	case err != nil:
		c.fail(err)
	default:
		c.errors = 0
		c.reply(250, "2.0.0", c.accepted())
	}
	if c.session != nil {
		c.session.Reset()
	}
	c.forget()
}

func (c *conn) accepted() string {
	if s, ok := c.session.(interface{ Accepted() string }); ok {
		return "ok " + s.Accepted()
	}
	return "ok"
}

// fail answers a session's error. What says nothing about itself is our own
// trouble, hence temporary.
func (c *conn) fail(err error) {
	var e *smtp.SMTPError
	if !errors.As(err, &e) || e.Code < 400 || e.Code > 599 {
		c.srv.log.Warn("session failed", "stage", "ingest", "host", c.peer.Addr.Addr().String(), "err", err)
		e = &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 3, 0}, Message: "local trouble, try again later"}
	}
	c.reply(e.Code, enhanced(e), e.Message)
	if e.Code == 421 {
		c.cut()
	}
}

// enhanced is an error's enhanced code as text; an unset one is made from the
// reply code's class, as go-smtp does.
func enhanced(e *smtp.SMTPError) string {
	switch e.EnhancedCode {
	case smtp.NoEnhancedCode:
		return ""
	case smtp.EnhancedCodeNotSet:
		return fmt.Sprintf("%d.0.0", e.Code/100)
	}
	return fmt.Sprintf("%d.%d.%d", e.EnhancedCode[0], e.EnhancedCode[1], e.EnhancedCode[2])
}

// errAbandoned ends content that comes in chunks when another command than
// BDAT follows a chunk.
var errAbandoned = errors.New("message abandoned")

// bdat takes a message in chunks (RFC 3030). The session reads all of them in
// one Data: at a chunk's end its reader answers, and reads the next command.
func (c *conn) bdat(arg string) {
	size, last, ok := parseBdat(arg)
	if !ok { // what follows can't be told from commands
		c.protocolError(501, "5.5.4", "expected BDAT size [LAST]")
		c.cut()
		return
	}
	defer c.Pace()()
	if !c.deliverable() {
		c.skip(size)
		return
	}
	c.setState(chunked)
	chunks := &chunks{c: c, r: c.in.Chunks(c.textOptions())}
	chunks.begin(size, last)
	b := &body{read: chunks.Read}
	err := c.take(b)
	if errors.Is(b.err, errAbandoned) {
		c.session.Reset()
		c.forget()
		return
	}
	if err == nil && !errors.Is(b.err, io.EOF) {
		err = errAbandoned // it did not read to the end
	}
	if !lost(b.err) {
		if chunks.r.Left() > c.cfg.MaxSize+drainLimit {
			c.cut()
		} else if drained := chunks.r.Drain(); drained != nil {
			b.err = drained
		}
	}
	c.settle(b, err)
}

// skip throws the chunk of a refused BDAT away.
func (c *conn) skip(size int64) {
	if size > c.cfg.MaxSize+drainLimit {
		c.cut()
		return
	}
	if err := c.in.Discard(size); err != nil {
		c.giveUp(err)
	}
}

func parseBdat(arg string) (size int64, last, ok bool) {
	number, word, more := strings.Cut(arg, " ")
	size, err := strconv.ParseInt(number, 10, 64)
	if err != nil || size < 0 || number[0] == '+' || more && !strings.EqualFold(word, "LAST") {
		return 0, false, false
	}
	return size, more, true
}

// chunks reads content over several BDAT commands.
type chunks struct {
	c *conn
	r *wire.ChunkReader
	// size of the chunk and of all of them
	chunk, total int64
}

func (k *chunks) begin(size int64, last bool) {
	k.chunk = size
	k.total += size
	k.r.Begin(size, last)
}

func (k *chunks) Read(p []byte) (int, error) {
	for {
		if k.total > k.c.cfg.MaxSize {
			return 0, &smtp.SMTPError{Code: 552, EnhancedCode: smtp.EnhancedCode{5, 3, 4}, Message: "message too big"}
		}
		n, err := k.r.Read(p)
		if !errors.Is(err, wire.ErrChunkEnd) {
			return n, err
		}
		k.c.reply(250, "2.0.0", fmt.Sprintf("%d octets taken", k.chunk))
		if err := k.next(); err != nil {
			return 0, err
		}
	}
}

// next reads commands up to the next BDAT. The minimum rate holds here as
// well: a client that says NOOP now and then would keep the place of a large
// message for ever.
func (k *chunks) next() error {
	c := k.c
	for {
		line, err := c.nextCommand()
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF // only the last chunk ends a message
		}
		if err != nil {
			return err
		}
		verb, arg, _ := strings.Cut(strings.TrimRight(string(line), " \t"), " ")
		switch strings.ToUpper(verb) {
		case "BDAT":
			size, last, ok := parseBdat(arg)
			if !ok {
				c.protocolError(501, "5.5.4", "expected BDAT size [LAST]")
				c.cut()
				return errAbandoned
			}
			k.begin(size, last)
			return nil
		case "NOOP":
			c.noop("")
		case "MAIL", "RCPT", "DATA", "STARTTLS":
			c.protocolError(503, "5.5.1", "BDAT or RSET expected")
			if c.closing {
				return errAbandoned
			}
		default: // RSET, QUIT, EHLO and the rest end the message
			c.pending = append([]byte{}, line...)
			return errAbandoned
		}
	}
}
