package clamd

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"qstream/engine"
)

const (
	chunkSize = 64 << 10
	maxReply  = 4 << 10 // clamd's own replies are under 1 KiB
)

// errSilent is a clamd that takes a command and doesn't answer: another
// connection would fare no better.
var errSilent = errors.New("no answer from clamd")

// errHasty is a verdict on a message that clamd hasn't seen the end of.
var errHasty = errors.New("clamd answers before it has all of the message")

// session is a connection in IDSESSION, where clamd numbers the commands and
// puts the number before each reply. One command is in flight at a time.
type session struct {
	conn  *engine.Conn
	in    *bufio.Reader
	last  uint64 // number of the last command
	ended bool   // clamd ends the connection after the last reply
	used  time.Time
}

// open opens a session on a new connection and asks for VERSION.
func open(conn *engine.Conn) (*session, engine.State, error) {
	s := &session{conn: conn, in: bufio.NewReaderSize(conn, maxReply)}
	state, err := s.ask("zIDSESSION\x00zVERSION\x00")
	return s, state, err
}

func (s *session) version() (engine.State, error) { return s.ask("zVERSION\x00") }

func (s *session) ask(command string) (engine.State, error) {
	s.last++
	if _, err := io.WriteString(s.conn, command); err != nil {
		return engine.State{}, engine.Fail(engine.Broken, "ask clamd for its version: %w", err)
	}
	reply, err := s.reply()
	if err != nil {
		return engine.State{}, err
	}
	if s.ended {
		return engine.State{}, engine.Fail(engine.Trouble, "clamd answers VERSION with %q", engine.Text(reply))
	}
	return version(reply)
}

// upload is a message on its way: who reads it sends it to clamd.
type upload struct {
	s       *session
	content *engine.Content
	buf     []byte
	broken  error // of the connection
}

// begin begins a scan.
func (s *session) begin(content *engine.Content) (*upload, error) {
	s.last++
	if _, err := io.WriteString(s.conn, "zINSTREAM\x00"); err != nil {
		return nil, engine.Fail(engine.Broken, "begin a scan: %w", err)
	}
	return &upload{s: s, content: content, buf: make([]byte, 4+chunkSize)}, nil
}

// Read sends the next chunk and returns it.
func (u *upload) Read(p []byte) (int, error) {
	b, err := u.next(min(len(p), chunkSize))
	return copy(p, b), err
}

func (u *upload) next(most int) ([]byte, error) {
	if u.broken != nil {
		return nil, u.broken
	}
	n, err := u.content.Read(u.buf[4 : 4+most])
	if u.content.Err() != nil {
		return nil, engine.Fail(engine.Unreadable, "read content: %w", u.content.Err())
	}
	if n > 0 {
		binary.BigEndian.PutUint32(u.buf, uint32(n))
		if _, u.broken = u.s.conn.Write(u.buf[:4+n]); u.broken != nil {
			return nil, u.broken
		}
	}
	return u.buf[4 : 4+n], err
}

// end sends what is left and returns the reply. A chunk of length zero says
// that the message was whole, so it is sent only at content's end.
func (u *upload) end() (string, error) {
	for {
		_, err := u.next(chunkSize)
		if u.broken != nil {
			return u.s.early(u.broken)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return "", err
		}
	}
	if u.s.conn.Spoke() {
		return u.s.early(errHasty)
	}
	if _, err := u.s.conn.Write([]byte{0, 0, 0, 0}); err != nil {
		return u.s.early(err)
	}
	return u.s.reply()
}

// early is what clamd said before the message was sent: usually, as it ends the
// connection, that it is too large. Any other word than an error is not
// believed, for clamd hasn't seen it all.
func (s *session) early(cause error) (string, error) {
	if errors.Is(cause, os.ErrDeadlineExceeded) {
		return "", engine.Fail(engine.Late, "send content: %w", cause)
	}
	reply, err := s.reply()
	if err != nil || !strings.HasSuffix(reply, " ERROR") {
		return "", engine.Fail(engine.Broken, "send content: %w", cause)
	}
	s.ended = true
	return reply, nil
}

// reply reads the reply to the last command. Errors come without its number
// where clamd gives up the session.
func (s *session) reply() (string, error) {
	line, err := s.in.ReadSlice(0)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "", engine.Fail(engine.Late, "%w: %w", errSilent, err)
	case errors.Is(err, bufio.ErrBufferFull):
		return "", engine.Fail(engine.Broken, "reply of clamd is longer than %d bytes", maxReply)
	case err != nil:
		return "", engine.Fail(engine.Broken, "read the reply of clamd: %w", err)
	}
	text := string(line[:len(line)-1])
	number, rest, found := strings.Cut(text, ": ")
	if n, err := strconv.ParseUint(number, 10, 64); found && err == nil {
		if n != s.last {
			return "", engine.Fail(engine.Broken, "clamd answers command %d instead of %d", n, s.last)
		}
		text = rest
	} else if strings.HasSuffix(text, " ERROR") {
		s.ended = true
	} else {
		return "", engine.Fail(engine.Broken, "clamd says %q", engine.Text(text))
	}
	if s.in.Buffered() > 0 {
		return "", engine.Fail(engine.Broken, "clamd says more than was asked")
	}
	return text, nil
}
