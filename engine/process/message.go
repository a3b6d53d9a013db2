package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"qstream/engine"
	"qstream/mail"
)

// messageName is the message's file in the folder of a scan.
const messageName = "message"

// Store writes content to a file in a folder, its lines ended by LF as programs
// of the qmail world know them. Each of the watchers sees it so, too. It stops
// above most bytes (0: no limit), and tells the size so far: nothing is to be
// asked about such a file. A failure has its reason.
func Store(ctx context.Context, folder string, content io.Reader, most int64, watch io.Writer) (path string, size int64, err error) {
	path = filepath.Join(folder, messageName)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", 0, engine.Fail(engine.Trouble, "keep the message: %w", err)
	}
	size, err = store(ctx, f, engine.NewContent(content), most, watch)
	if closed := f.Close(); err == nil && closed != nil {
		err = engine.Fail(engine.Trouble, "keep the message: %w", closed)
	}
	return path, size, err
}

func store(ctx context.Context, f *os.File, from *engine.Content, most int64, watch io.Writer) (size int64, err error) {
	var lf lines
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if from.Err() != nil {
			return size, engine.Fail(engine.Unreadable, "read content: %w", from.Err())
		}
		out := lf.convert(buf[:n], err == io.EOF)
		size += int64(len(out))
		if most > 0 && size > most {
			return size, nil
		}
		if _, err := f.Write(out); err != nil {
			return size, engine.Fail(engine.Trouble, "keep the message: %w", err)
		}
		if watch != nil {
			_, _ = watch.Write(out)
		}
		if err == io.EOF {
			return size, nil
		}
		if err := ctx.Err(); err != nil {
			return size, err
		}
	}
}

// lines makes CRLF into LF, in place as far as it goes. Other CR and LF stay.
type lines struct {
	held bool // a CR whose successor isn't seen
	out  []byte
}

func (l *lines) convert(p []byte, last bool) []byte {
	out := l.out[:0]
	if l.held && (len(p) > 0 && p[0] != '\n' || len(p) == 0 && last) {
		out = append(out, '\r')
	}
	if len(p) > 0 || last {
		l.held = false
	}
	for {
		cr := bytes.IndexByte(p, '\r')
		if cr < 0 {
			break
		}
		out = append(out, p[:cr]...)
		if p = p[cr+1:]; len(p) == 0 {
			if l.held = !last; last {
				out = append(out, '\r')
			}
			break
		}
		if p[0] != '\n' {
			out = append(out, '\r')
		}
	}
	l.out = append(out, p...)
	return l.out
}

// Failed is the verdict about a program that gave none.
func Failed(ctx context.Context, name string, err error) engine.Verdict {
	switch {
	case errors.Is(err, ErrStart):
		err = &engine.Failure{Reason: engine.Unreachable, Err: err}
	case errors.Is(err, ErrOutput):
		err = &engine.Failure{Reason: engine.Trouble, Err: err}
	}
	return engine.FailedBy(ctx, name, err)
}

// maxEnv bounds a variable: the kernel takes 128 KiB, and one mail of many
// recipients isn't to fail by it.
const maxEnv = 100 << 10

// Env is what programs of the qmail world find in their environment, in the
// names of tcpserver and s/qmail, and nothing of ours but PATH.
func Env(f *engine.Facts) []string {
	path := os.Getenv("PATH")
	if path == "" {
		path = "/usr/local/bin:/usr/bin:/bin"
	}
	env := []string{"PATH=" + path, "PROTO=TCP", "MAILFROM=" + value(f.ReversePath), "RCPTTO=" + value(strings.Join(f.Recipients, " "))}
	set := func(name, v string) {
		if v != "" {
			env = append(env, name+"="+value(v))
		}
	}
	if f.Client.IsValid() {
		set("TCPREMOTEIP", f.Client.Unmap().String())
	}
	set("TCPREMOTEHOST", f.ClientName)
	set("HELOHOST", f.HELO)
	set("AUTHUSER", f.User)
	set("QSTREAM_ID", f.MessageID)
	return env
}

// Check refuses how a program is to be run: for a negative time, by limits that
// can't be set, with variables that are none.
func Check(limit time.Duration, l Limits, env []string) error {
	var err error
	if limit < 0 {
		err = errors.New("negative time")
	}
	return errors.Join(err, l.Check(), checkEnv(env))
}

// checkEnv refuses what is no "NAME=value".
func checkEnv(env []string) error {
	for _, e := range env {
		if name, _, ok := strings.Cut(e, "="); !ok || name == "" || strings.ContainsAny(e, "\x00\n") {
			return fmt.Errorf("%q is no variable with a value", e)
		}
	}
	return nil
}

// value makes hostile text a value: it is cut rather than refused.
func value(s string) string {
	s = mail.Printable(s)
	if len(s) > maxEnv {
		s = s[:maxEnv]
		if i := strings.LastIndexByte(s, ' '); i > 0 {
			s = s[:i] // between two recipients
		}
	}
	return s
}
