package roster

import (
	"context"
	"io"
	"strings"
	"time"

	"qstream/engine"
)

// Message is what an engine is asked about.
type Message struct {
	Lane    string // whose slots of the engine it takes
	Idle    bool   // takes slots that nobody else wants
	Prepend []byte // header lines that go before the content
	Size    int64  // of the content
	Open    func(ctx context.Context) (io.ReadCloser, error)
	Facts   *engine.Facts
}

// maxChanges bounds what an engine may want done to a header: it travels with
// the mail.
const maxChanges = 32 << 10

// Ask waits for a slot of the engine and gives it the message, within the
// engine's deadline. took is how long it had it; 0: it wasn't asked. Content
// that can't be read is no failure of the engine's, and has that reason.
func (m *Member) Ask(ctx context.Context, q Message) (v engine.Verdict, took time.Duration) {
	if !m.Slots.EnterAs(ctx, q.Lane, m.Doc.Concurrency, q.Idle) {
		return engine.FailedBy(ctx, m.Name(), ctx.Err()), 0
	}
	defer m.Slots.Leave(q.Lane)
	limited, cancel := context.WithTimeout(ctx, m.Doc.Limit(q.Size))
	defer cancel()
	from, err := q.Open(limited)
	if err != nil {
		return unreadable(m.Name(), err), 0
	}
	defer from.Close()
	content := &checked{Reader: from}
	began := time.Now()
	v = m.Scan(limited, io.MultiReader(strings.NewReader(string(q.Prepend)), content), q.Facts)
	took = max(time.Since(began), 1)
	if v.Outcome == engine.Failed && content.err != nil && limited.Err() == nil {
		return unreadable(m.Name(), content.err), took
	}
	size := 0
	for _, c := range v.Changes {
		size += len(c.Name) + len(c.Value) + 16
	}
	if size > maxChanges {
		v = engine.Verdict{Engine: m.Name(), Outcome: engine.Unscannable, Reason: engine.TooLarge, Detail: "the engine wants too much of the header changed"}
	}
	return v, took
}

func unreadable(name string, err error) engine.Verdict {
	return engine.Verdict{Engine: name, Outcome: engine.Failed, Reason: engine.Unreadable, Detail: engine.Text(err.Error())}
}

// checked remembers what reading failed with.
type checked struct {
	io.Reader
	err error
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}
