// Package unpack measures what mail expands to: it walks MIME parts, forwarded
// messages and archives by itself, within hard limits. It is the engine that
// says what other engines pass in silence, such as an archive's member that is
// larger than they look into.
//
// Guarantee: Clean means that every part and member it knows how to open was
// opened to its end, nothing in it is larger than Member, and nothing exceeds
// the other limits. It doesn't say that there is no malware: set the limits to
// what the engine beside it looks into.
// Guarantee: whatever the content, memory stays under some tens of MiB, disk
// under Total, and the work ends within Time after the content was read.
//
// It opens zip (and what is made of it), gzip, bzip2, zstd and tar, base64,
// quoted-printable and uuencode. Other archives (7z, rar, xz, cab, lzh, arj, ace,
// TNEF), fragments of mail and members of unknown methods are Unscannable as
// not supported. It doesn't look into PDF and disk images, or at what precedes a zip.
package unpack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"qstream/engine"
)

// Config has the limits. What is zero takes its default, which is clamd's.
type Config struct {
	Name   string        // in verdicts; default "unpack"
	Depth  int           // how deep archives, messages and multiparts nest; default 16
	Parts  int           // MIME parts and members in all; default 10,000
	Member int64         // bytes of the message, and of anything in it; default 100 MiB
	Total  int64         // bytes of everything at every depth; default 400 MiB
	Time   time.Duration // of work, without the time it takes to read content; default 60s
	Memory int           // bytes of a part that are held before it goes to a file; default 1 MiB
	Dir    string        // of these files, which have no names; default os.TempDir
}

// Engine measures mail. It holds nothing between scans.
type Engine struct{ cfg Config }

var _ engine.Engine = (*Engine)(nil)

// New checks cfg.
func New(cfg Config) (*Engine, error) {
	if cfg.Depth < 0 || cfg.Parts < 0 || cfg.Member < 0 || cfg.Total < 0 || cfg.Time < 0 || cfg.Memory < 0 {
		return nil, errors.New("unpack: negative limit")
	}
	if cfg.Name == "" {
		cfg.Name = "unpack"
	}
	cfg.Depth = defaulted(cfg.Depth, 16)
	cfg.Parts = defaulted(cfg.Parts, 10_000)
	cfg.Member = defaulted(cfg.Member, 100<<20)
	cfg.Total = defaulted(cfg.Total, 400<<20)
	cfg.Time = defaulted(cfg.Time, time.Minute)
	cfg.Memory = defaulted(cfg.Memory, 1<<20)
	return &Engine{cfg: cfg}, nil
}

func defaulted[T int | int64 | time.Duration](v, other T) T {
	if v == 0 {
		return other
	}
	return v
}

// Name is Config.Name.
func (e *Engine) Name() string { return e.cfg.Name }

// State names the limits: verdicts hold as long as they do.
func (e *Engine) State(context.Context) (engine.State, error) {
	return engine.State{Software: "qstream unpack 1", Signatures: fmt.Sprintf("1/%d/%d/%d/%d/%v",
		e.cfg.Depth, e.cfg.Parts, e.cfg.Member, e.cfg.Total, e.cfg.Time)}, nil
}

// Close has nothing to end.
func (e *Engine) Close() error { return nil }

// Scan walks the message. The verdict's Detail tells what was measured.
func (e *Engine) Scan(ctx context.Context, content io.Reader, f *engine.Facts) engine.Verdict {
	w := &walk{ctx: ctx, cfg: &e.cfg, begun: time.Now()}
	v := engine.Verdict{Engine: e.cfg.Name}
	state, err := e.State(ctx)
	if err == nil && f.Size > e.cfg.Member {
		err = &limit{engine.TooLarge, fmt.Sprintf("a message of %d bytes", f.Size)}
	}
	if err == nil {
		err = w.message(&clocked{w: w, from: engine.NewContent(content)}, 0)
	}
	var l *limit
	switch {
	case errors.As(err, &l):
		v.Outcome, v.Reason, v.Detail = engine.Unscannable, l.reason, engine.Text(l.what)
	case err != nil:
		return engine.FailedBy(ctx, e.cfg.Name, err)
	case w.closed.reason != engine.NoReason:
		v.Outcome, v.Reason, v.Detail = engine.Unscannable, w.closed.reason, engine.Text(w.closed.what)
	case w.locked.reason != engine.NoReason:
		v.Outcome, v.Reason, v.Detail = engine.Encrypted, w.locked.reason, engine.Text(w.locked.what)
	default:
		v.Outcome = engine.Clean
		v.Detail = fmt.Sprintf("%d parts, %d deep, %d bytes, the largest %d", w.parts, w.deepest, w.total, w.largest)
	}
	v.Signatures = state.Signatures
	return v
}
