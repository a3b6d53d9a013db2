package verify

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync"

	"github.com/emersion/go-msgauth/dkim"
)

// Wanted says what a message is to be asked.
type Wanted struct {
	ID    string // our authserv-id (RFC 8601 2.5): fields in the content that bear it aren't ours
	DKIM  bool
	DMARC bool // needs DKIM and SPF; asks for DKIM by itself
}

// Message verifies a message while it comes in: what is written to it is the
// content, from its first octet. Not safe for concurrent use. It holds a
// goroutine from the header's end until Finish or Abort.
type Message struct {
	c      *Checker
	ctx    context.Context
	wanted Wanted

	header  []byte
	ended   bool // the header
	tooLong bool // the header
	fields  fields

	body     *io.PipeWriter // nil: nothing is verified
	done     chan struct{}
	verified []*dkim.Verification
	broken   error
	blank    int // line ends in a row
	given    string

	asked answers
}

// Signature is what a DKIM signature came to.
type Signature struct {
	Result    string
	Domain    string // d=; hostile text
	Selector  string
	Algorithm string
	Start     string // of b=, which tells signatures apart (RFC 6008)
	Reason    string
}

// Message starts a message. ctx bounds it, beside Config.Timeout for DNS.
func (c *Checker) Message(ctx context.Context, w Wanted) *Message {
	w.DKIM = w.DKIM || w.DMARC
	return &Message{c: c, ctx: ctx, wanted: w}
}

// Write takes content. It never fails; at the header's end it waits for DNS.
func (m *Message) Write(p []byte) (int, error) {
	n := len(p)
	if !m.ended {
		p = m.writeHeader(p)
	}
	if m.ended && len(p) > 0 {
		m.writeBody(p)
	}
	return n, nil
}

// writeHeader keeps the header and returns what follows it.
func (m *Message) writeHeader(p []byte) (rest []byte) {
	had := len(m.header)
	m.header = append(m.header, p[:min(len(p), m.c.cfg.MaxHeader+4-had)]...)
	end := -1
	if bytes.HasPrefix(m.header, []byte("\r\n")) {
		end = 2
	} else if i := bytes.Index(m.header[max(0, had-3):], []byte("\r\n\r\n")); i >= 0 {
		end = max(0, had-3) + i + 4
	}
	switch {
	case end >= 0:
		m.header = m.header[:end]
		rest = p[end-had:]
		m.endHeader()
	case len(m.header) > m.c.cfg.MaxHeader:
		m.tooLong = true
		m.endHeader()
	}
	return rest
}

// endHeader reads the header and asks DNS all there is to ask, at once.
func (m *Message) endHeader() {
	m.ended = true
	m.fields = readFields(m.header, m.wanted.ID)
	if !m.wanted.DKIM {
		m.header = nil
		return
	}
	if m.tooLong {
		m.given = "header is too long"
	}
	m.ask()
	if m.given != "" || len(m.fields.signatures) == 0 {
		m.header = nil
		return
	}
	m.start()
}

// start lets the library verify what is written.
func (m *Message) start() {
	r, w := io.Pipe()
	m.body, m.done = w, make(chan struct{})
	header := io.MultiReader(bytes.NewReader(m.header), r)
	options := &dkim.VerifyOptions{LookupTXT: m.asked.get, MaxVerifications: m.c.cfg.MaxSignatures}
	go func() {
		defer close(m.done)
		m.verified, m.broken = dkim.VerifyWithOptions(header, options)
		r.Close() // it need not read to the end; further content goes nowhere
	}()
}

// writeBody hands on the body, unless it is one of those that the library
// would keep in memory: it holds back line ends until something follows them.
func (m *Message) writeBody(p []byte) {
	if m.body == nil {
		return
	}
	for _, c := range p {
		switch c {
		case '\r', '\n':
			m.blank++
		case ' ', '\t':
		default:
			m.blank = 0
		}
		if m.blank > m.c.cfg.MaxBlank {
			m.given = "too many empty lines"
			m.stop()
			return
		}
	}
	_, _ = m.body.Write(p) // an error says that the library knows enough
}

// stop ends the library's work and waits for it.
func (m *Message) stop() {
	if m.body != nil {
		m.body.CloseWithError(context.Canceled)
		<-m.done
		m.body = nil
	}
}

// Abort ends a message that came to nothing. After Finish it does nothing.
func (m *Message) Abort() { m.stop() }

// Findings are what a message's checks came to.
type Findings struct {
	SPF    *SPF // nil: nobody asked
	DKIM   []Signature
	NoDKIM bool // there is no signature although somebody asked
	DMARC  *DMARC
	Forged int // Authentication-Results fields in the content that bear our id
}

// Finish ends the content and tells what was found. spf is what was found
// about the sender; nil if nobody asked.
func (m *Message) Finish(spf *SPF) Findings {
	if !m.ended {
		m.header = append(m.header, "\r\n"...) // a message without body
		m.endHeader()
	}
	f := Findings{SPF: spf, Forged: m.fields.forged}
	if !m.wanted.DKIM {
		return f
	}
	if m.body != nil {
		m.body.Close()
		<-m.done
		m.body = nil
	}
	f.DKIM = m.results()
	f.NoDKIM = len(f.DKIM) == 0
	if m.wanted.DMARC {
		f.DMARC = m.evaluate(spf, f.DKIM)
	}
	return f
}

// results are what the library found, in the order of the signatures.
func (m *Message) results() []Signature {
	var out []Signature
	for i, tags := range m.fields.signatures {
		if i == m.c.cfg.MaxSignatures {
			break
		}
		s := Signature{
			Domain: tags["d"], Selector: tags["s"], Algorithm: tags["a"],
			Start: tags["b"][:min(8, len(tags["b"]))],
		}
		switch {
		case m.given != "":
			s.Result, s.Reason = PermError, m.given
		case i < len(m.verified) && m.verified[i] != nil:
			s.Result, s.Reason = outcome(m.verified[i].Err)
		default:
			s.Result, s.Reason = PermError, "not verified"
			if m.broken != nil {
				s.Reason = strings.TrimPrefix(m.broken.Error(), "dkim: ")
			}
		}
		out = append(out, s)
	}
	return out
}

func outcome(err error) (result, reason string) {
	if err == nil {
		return Pass, ""
	}
	reason = strings.TrimPrefix(err.Error(), "dkim: ")
	switch {
	case dkim.IsTempFail(err):
		return TempError, reason
	case dkim.IsPermFail(err):
		return PermError, reason
	}
	return Fail, reason
}

// answers are TXT records that were asked for ahead.
type answers struct {
	mu sync.Mutex
	m  map[string]answer
}

type answer struct {
	texts []string
	err   error
}

func (a *answers) get(name string) ([]string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	got, ok := a.m[name]
	if !ok {
		return nil, dnsError(name, context.DeadlineExceeded)
	}
	return got.texts, got.err
}

// ask asks for keys and policies side by side, so that they cost one wait and
// no large message holds its place while it lasts.
func (m *Message) ask() {
	ctx, cancel := context.WithTimeout(m.ctx, m.c.cfg.Timeout)
	defer cancel()
	m.asked.m = map[string]answer{}
	var names []string
	for i, tags := range m.fields.signatures {
		if i < m.c.cfg.MaxSignatures && fullName(tags["d"]) && tags["s"] != "" {
			names = append(names, tags["s"]+"._domainkey."+tags["d"])
		}
	}
	if m.wanted.DMARC {
		names = append(names, m.fields.policies()...)
	}
	var waiting sync.WaitGroup
	for _, name := range names {
		waiting.Go(func() {
			texts, err := m.c.texts(ctx, name)
			m.asked.mu.Lock()
			defer m.asked.mu.Unlock()
			m.asked.m[name] = answer{texts, err}
		})
	}
	waiting.Wait()
}
