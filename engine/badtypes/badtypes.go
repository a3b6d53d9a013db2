// Package badtypes looks for s/qmail's badmimetypes and badloadertypes: what
// base64 parts begin with, and what stands in them.
//
// Guarantee: Clean means that all of the message was read and holds none of the
// listed beginnings. Lists that can't be read now are Failed, never empty lists.
//
// It decodes nothing, and doesn't look into archives.
package badtypes

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"qstream/engine"
	"qstream/mail"
	"qstream/qmail"
)

// maxList bounds a list's file, in bytes.
const maxList = 1 << 20

// Config has the lists, in qmail's format; those that are empty search for
// nothing. A file is read at the first scan, and again when it has changed.
type Config struct {
	Name                 string // in verdicts; default "types"
	MIME, MIMEFile       string // badmimetypes: the text, or an absolute path
	Loaders, LoadersFile string // badloadertypes, likewise
	Blanks               bool   // refuse blanks within the lines of base64, too
}

// Engine searches messages.
type Engine struct {
	cfg  Config
	mime list
	load list
}

var _ engine.Engine = (*Engine)(nil)

// New checks cfg and the lists that are given as text.
func New(cfg Config) (*Engine, error) {
	if cfg.Name == "" {
		cfg.Name = "types"
	}
	e := &Engine{cfg: cfg,
		mime: list{path: cfg.MIMEFile, parse: qmail.ParseMIMETypes}, load: list{path: cfg.LoadersFile, parse: qmail.ParseLoaderTypes}}
	if cfg.MIME+cfg.MIMEFile+cfg.Loaders+cfg.LoadersFile == "" && !cfg.Blanks {
		return nil, errors.New("types: nothing to look for")
	}
	for _, one := range []struct {
		l          *list
		text, path string
	}{{&e.mime, cfg.MIME, cfg.MIMEFile}, {&e.load, cfg.Loaders, cfg.LoadersFile}} {
		if one.path != "" && (one.text != "" || !filepath.IsAbs(one.path)) {
			return nil, fmt.Errorf("types: a list is a text or an absolute path, not %q", one.path)
		}
		if one.text == "" {
			continue
		}
		if err := one.l.take(one.text); err != nil {
			return nil, fmt.Errorf("types: %w", err)
		}
	}
	return e, nil
}

// Name is Config.Name.
func (e *Engine) Name() string { return e.cfg.Name }

// Close has nothing to end.
func (e *Engine) Close() error { return nil }

// State names the lists in force.
func (e *Engine) State(context.Context) (engine.State, error) {
	_, s, err := e.rules()
	return s, err
}

// rules are the lists in force, and their name.
func (e *Engine) rules() (qmail.ContentRules, engine.State, error) {
	mime, mimeSum, mimeAt, err := e.mime.now()
	loaders, loadersSum, loadersAt, err2 := e.load.now()
	if err := errors.Join(err, err2); err != nil {
		return qmail.ContentRules{}, engine.State{}, fmt.Errorf("lists of %s: %w", e.cfg.Name, err)
	}
	s := engine.State{Software: "qstream types 1", Signatures: fmt.Sprintf("1/%s/%s/%t", mimeSum, loadersSum, e.cfg.Blanks), Built: mimeAt}
	if loadersAt.After(s.Built) {
		s.Built = loadersAt
	}
	return qmail.ContentRules{MIME: mime, Loaders: loaders, Blanks: e.cfg.Blanks}, s, nil
}

// findings are what is said of each.
var findings = map[qmail.Finding]struct{ name, text string }{
	qmail.BadMIMEType:   {"badmimetype", "an attachment of a kind that is not taken"},
	qmail.BadLoaderType: {"badloadertype", "a program in an attachment"},
	qmail.BlankInBase64: {"blank in base64", "an attachment that is broken on purpose"},
}

// Scan reads content up to the first finding.
func (e *Engine) Scan(ctx context.Context, content io.Reader, _ *engine.Facts) engine.Verdict {
	rules, state, err := e.rules()
	if err != nil {
		return engine.FailedBy(ctx, e.cfg.Name, &engine.Failure{Reason: engine.Trouble, Err: err})
	}
	scan := qmail.NewContentScan(rules)
	from := engine.NewContent(content)
	buf := make([]byte, 64<<10)
	for scan.Found == qmail.Clean {
		if err := ctx.Err(); err != nil {
			return engine.FailedBy(ctx, e.cfg.Name, err)
		}
		n, err := from.Read(buf)
		_, _ = scan.Write(buf[:n])
		if from.Err() != nil {
			return engine.FailedBy(ctx, e.cfg.Name, engine.Fail(engine.Unreadable, "read content: %w", from.Err()))
		}
		if err == io.EOF {
			break
		}
	}
	v := engine.Verdict{Engine: e.cfg.Name, Outcome: engine.Clean, Signatures: state.Signatures}
	if what, bad := findings[scan.Found]; bad {
		v.Outcome, v.Advice, v.Name, v.Detail = engine.Refused, engine.Refuse, what.name, what.text
		v.Status = mail.Status{Code: 554, Enhanced: "5.7.1", Text: "invalid message content: " + what.text}
	}
	return v
}

// list is one of the two. A file is looked at for every scan.
type list struct {
	path  string // empty: none, or given as text
	parse func(string) (*qmail.Types, error)

	mu   sync.Mutex
	held *qmail.Types // nil: not read
	sum  string
	info os.FileInfo
}

func (l *list) now() (*qmail.Types, string, time.Time, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.path == "" {
		return l.held, l.sum, time.Time{}, nil
	}
	f, err := os.Open(l.path)
	if err != nil {
		return nil, "", time.Time{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, "", time.Time{}, err
	}
	if l.held == nil || !os.SameFile(info, l.info) || info.ModTime() != l.info.ModTime() || info.Size() != l.info.Size() {
		b, err := io.ReadAll(io.LimitReader(f, maxList+1))
		if err != nil {
			return nil, "", time.Time{}, err
		}
		if len(b) > maxList {
			return nil, "", time.Time{}, fmt.Errorf("%s is longer than %d bytes", l.path, maxList)
		}
		if err := l.take(string(b)); err != nil {
			return nil, "", time.Time{}, fmt.Errorf("%s: %w", l.path, err)
		}
		l.info = info
	}
	return l.held, l.sum, l.info.ModTime(), nil
}

// take parses a list; one that is broken leaves none.
func (l *list) take(text string) (err error) {
	l.held = nil
	if l.held, err = l.parse(text); err != nil {
		l.held = nil
		return err
	}
	sum := sha256.Sum256([]byte(text))
	l.sum = hex.EncodeToString(sum[:8])
	return nil
}
