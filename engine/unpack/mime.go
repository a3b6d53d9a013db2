package unpack

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"mime"
	"regexp"
	"strings"

	"qstream/engine"
)

const (
	lineSize = 32 << 10 // longer lines come in pieces
	maxField = 64 << 10 // of a header field that matters
)

// message walks a message. It is more forgiving than RFC 2046: what some
// reader of mail may take for a part is one here.
func (w *walk) message(r io.Reader, depth int) error {
	p := &parser{w: w, depth: depth}
	defer p.drop()
	if err := p.entity(); err != nil {
		return err
	}
	in := bufio.NewReaderSize(r, lineSize)
	for begin := true; ; {
		line, err := in.ReadSlice('\n')
		if len(line) > 0 {
			if err := p.line(line, begin); err != nil {
				return err
			}
		}
		begin = err == nil
		if err == io.EOF {
			return p.finish()
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}

// frame is a multipart that is open: its delimiter and the depth of its parts.
type frame struct {
	delimiter []byte // with the two hyphens before it
	depth     int
}

// parser takes a message line by line and keeps one leaf at a time.
type parser struct {
	w      *walk
	frames []frame
	depth  int // of the entity that is being read
	header *header
	leaf   *leaf // nil in headers, preambles and epilogues
}

// entity begins the header of a part or message.
func (p *parser) entity() error {
	p.header = &header{}
	return p.w.part(p.depth)
}

func (p *parser) line(line []byte, begin bool) error {
	if begin && len(p.frames) > 0 && bytes.HasPrefix(line, []byte("--")) {
		if i, last := p.delimiter(line); i >= 0 {
			return p.next(i, last)
		}
	}
	switch {
	case p.header != nil:
		if begin && len(bytes.TrimRight(line, "\r\n")) == 0 {
			return p.body()
		}
		if begin && p.header.broken(line) {
			// Some readers of mail begin the body here, some don't.
			p.w.close(engine.Damaged, "a line in a header that is no field")
			if err := p.body(); err != nil {
				return err
			}
			return p.line(line, begin)
		}
		if err := p.header.line(line, begin); err != nil {
			return err
		}
	case p.leaf != nil:
		return p.leaf.line(line, begin)
	}
	return nil
}

// delimiter finds the multipart that a line separates, from the innermost out
// (RFC 2046 5.1.1, 5.1.2), and whether it is the last.
func (p *parser) delimiter(line []byte) (frame int, last bool) {
	line = bytes.TrimRight(line, " \t\r\n")
	for i := len(p.frames) - 1; i >= 0; i-- {
		rest, ok := bytes.CutPrefix(line, p.frames[i].delimiter)
		if ok && len(rest) == 0 {
			return i, false
		}
		if ok && string(rest) == "--" {
			return i, true
		}
	}
	return -1, false
}

// next ends what is open inside the frame.
func (p *parser) next(i int, last bool) error {
	if err := p.finish(); err != nil {
		return err
	}
	p.depth = p.frames[i].depth
	if last {
		p.frames = p.frames[:i]
		return nil
	}
	p.frames = p.frames[:i+1]
	return p.entity()
}

// body begins what follows a header.
func (p *parser) body() error {
	h := p.header
	p.header = nil
	kind, params := h.media()
	if h.doubtful {
		p.w.close(engine.Damaged, "a part with two types or encodings")
	}
	coded := h.encoding != "" && h.encoding != "7bit" && h.encoding != "8bit" && h.encoding != "binary"
	switch {
	case strings.HasPrefix(kind, "multipart/") && params["boundary"] != "":
		if kind == "multipart/encrypted" {
			p.w.lock(engine.Message, "%s", kind)
		}
		p.depth++
		p.frames = append(p.frames, frame{delimiter: []byte("--" + params["boundary"]), depth: p.depth})
		if p.depth > p.w.cfg.Depth {
			return p.w.part(p.depth)
		}
		return nil
	case strings.HasPrefix(kind, "message/") && !coded && (kind == "message/rfc822" || kind == "message/global" || kind == "message/news"):
		p.depth++
		return p.entity()
	case kind == "message/partial":
		p.w.close(engine.NotSupported, "a fragment of a message")
	case strings.HasSuffix(kind, "/pkcs7-mime") || strings.HasSuffix(kind, "/x-pkcs7-mime"):
		if t := strings.ToLower(params["smime-type"]); t != "signed-data" && t != "certs-only" && t != "compressed-data" {
			p.w.lock(engine.Message, "%s", kind)
		}
	}
	p.leaf = newLeaf(p.w, p.depth, h.encoding, kind)
	return nil
}

// finish ends the leaf and looks into it. A header without a body is none.
func (p *parser) finish() error {
	p.header = nil
	if p.leaf == nil {
		return nil
	}
	l := p.leaf
	p.leaf = nil
	return l.finish()
}

func (p *parser) drop() {
	if p.leaf != nil {
		p.leaf.close()
	}
}

// header keeps the two fields that matter.
type header struct {
	field          []byte // the one being read, unfolded; nil: one that doesn't matter
	kind, encoding string
	doubtful       bool // one of them was given twice, differently
}

// broken reports a line that is neither a field nor the rest of one. Lines
// that mbox files leave behind are no harm.
func (h *header) broken(line []byte) bool {
	return line[0] != ' ' && line[0] != '\t' && bytes.IndexByte(line, ':') < 0 && len(line) < lineSize &&
		!bytes.HasPrefix(line, []byte("From ")) && !bytes.HasPrefix(line, []byte(">From "))
}

func (h *header) line(line []byte, begin bool) error {
	if begin && line[0] != ' ' && line[0] != '\t' {
		h.end()
		if !bytes.HasPrefix(bytes.ToLower(line[:min(len(line), 8)]), []byte("content-")) {
			return nil
		}
		h.field = []byte{}
	}
	if h.field == nil {
		return nil
	}
	h.field = append(h.field, bytes.TrimRight(line, "\r\n")...)
	if len(h.field) > maxField {
		return &limit{engine.TooLarge, "a header field about content"}
	}
	return nil
}

func (h *header) end() {
	name, value, found := strings.Cut(string(h.field), ":")
	h.field = nil
	if !found {
		return
	}
	value = strings.TrimSpace(value)
	switch strings.ToLower(strings.TrimSpace(name)) {
	case "content-type":
		h.doubtful = h.doubtful || h.kind != "" && h.kind != value
		h.kind = value
	case "content-transfer-encoding":
		// Comments and parameters may follow the word.
		word, _, _ := strings.Cut(strings.ToLower(value), ";")
		word, _, _ = strings.Cut(word, "(")
		word = strings.Trim(word, " \t\"")
		h.doubtful = h.doubtful || h.encoding != "" && h.encoding != word
		h.encoding = word
	}
}

var boundary = regexp.MustCompile(`(?i)boundary\s*=\s*(?:"([^"]*)"?|([^\s;]+))`)

// media is the type in lower case and its parameters, as far as they can be
// read at all.
func (h *header) media() (string, map[string]string) {
	h.end()
	kind, params, err := mime.ParseMediaType(h.kind)
	if err == nil && (!strings.HasPrefix(kind, "multipart/") || params["boundary"] != "") {
		params["boundary"] = strings.TrimRight(params["boundary"], " \t")
		return kind, params
	}
	kind, _, _ = strings.Cut(strings.ToLower(h.kind), ";")
	params = map[string]string{}
	if m := boundary.FindStringSubmatch(h.kind); m != nil {
		params["boundary"] = strings.TrimRight(m[1]+m[2], " \t")
	}
	return strings.TrimSpace(kind), params
}
