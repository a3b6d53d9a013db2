package directory

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// File is text that holds documents.
type File struct {
	Name string // shown in errors
	Data []byte

	stored bool // it is one document in canonical form, as it stands on the topic
}

// maxFile bounds a file. One tenant with 100,000 domains fits.
const maxFile = 8 << 20

// maxNesting bounds brackets and dashes within brackets and dashes: the YAML
// parser recurses. Documents need three.
const maxNesting = 32

// Parse reads the documents of files, several per file, each for itself:
// references are Build's matter. The error is an Errors with all faults.
func Parse(files ...File) ([]Document, error) {
	var docs []Document
	var errs Errors
	for _, f := range files {
		ds, es := parseFile(f)
		docs, errs = append(docs, ds...), append(errs, es...)
	}
	return docs, errs.err()
}

func parseFile(f File) (docs []Document, errs Errors) {
	if len(f.Data) > maxFile {
		return nil, Errors{{File: f.Name, Reason: fmt.Sprintf("is larger than %d MiB", maxFile>>20)}}
	}
	if line := tooDeep(f.Data); line > 0 {
		return nil, Errors{{File: f.Name, Line: line, Reason: "is nested too deeply"}}
	}
	for _, part := range split(f.Data) {
		tree, err := parseYAML(part.text)
		if err != nil {
			errs = append(errs, syntaxError(f.Name, part.line, err))
			continue
		}
		for _, d := range tree.Docs {
			if d.Body == nil || d.Body.Type() == ast.NullType {
				continue
			}
			r := &reading{file: f.Name, before: part.line, lines: map[string]int{}}
			if f.stored {
				r.text = string(f.Data)
			}
			doc, es := r.document(d.Body)
			if errs = append(errs, es...); len(es) == 0 {
				docs = append(docs, doc)
			}
		}
	}
	return docs, errs
}

// part is the text of one document and the number of lines before it.
type part struct {
	text []byte
	line int
}

// split cuts a file before each line that begins with "---", which is never
// anything else in YAML. The parser gets slow with the length of what it is
// given, and a syntax error in one document doesn't hide those in others.
func split(data []byte) (parts []part) {
	start, line, first := 0, 0, 0
	for at := 0; at < len(data); line++ {
		if marker := data[at:]; at > start && bytes.HasPrefix(marker, []byte("---")) && (len(marker) == 3 || bytes.IndexByte([]byte(" \t\r\n"), marker[3]) >= 0) {
			parts = append(parts, part{data[start:at], first})
			start, first = at, line
		}
		next := bytes.IndexByte(data[at:], '\n')
		if next < 0 {
			break
		}
		at += next + 1
	}
	return append(parts, part{data[start:], first})
}

// parseYAML guards against panics of the parser: what it is given may come
// from a topic.
func parseYAML(data []byte) (tree *ast.File, err error) {
	defer func() {
		if p := recover(); p != nil {
			tree, err = nil, fmt.Errorf("is no YAML that can be read: %v", p)
		}
	}()
	return parser.ParseBytes(data, 0)
}

func syntaxError(file string, before int, err error) *Error {
	var at yaml.Error
	if !errors.As(err, &at) || at.GetToken() == nil {
		return &Error{File: file, Line: before + 1, Reason: err.Error()}
	}
	reason := at.GetMessage()
	line := before + at.GetToken().Position.Line
	switch {
	case strings.Contains(reason, "unexpected scalar value type"):
		reason += ` (write "*" in quotes)`
	case strings.Contains(reason, "mapping value is not allowed"):
		reason += " (put text in quotes that ends with a colon or holds a colon and a space)"
	}
	return &Error{File: file, Line: line, Reason: reason}
}

// tooDeep is the line at which nesting passes maxNesting, 0 if it never does.
func tooDeep(data []byte) int {
	depth := 0
	for i, line := range bytes.Split(data, []byte("\n")) {
		dashes := 0
		for _, c := range line {
			switch c {
			case '[', '{':
				depth++
			case ']', '}':
				depth = max(depth-1, 0)
			case '-', '?':
				dashes++
			case ' ', '\t':
			default:
				dashes = -len(line)
			}
			if depth > maxNesting || dashes > maxNesting {
				return i + 1
			}
		}
	}
	return 0
}

func (r *reading) document(body ast.Node) (Document, Errors) {
	kind := kindOf(body)
	var doc Document
	switch kind {
	case KindQueue:
		doc = build(r, body, newQueue(""), queueKeys)
	case KindTenant:
		doc = build(r, body, newTenant(""), tenantKeys)
	case KindRoute:
		doc = build(r, body, &Route{}, routeKeys)
	case KindSite:
		doc = build(r, body, &Site{}, siteKeys)
	case KindCredential:
		doc = build(r, body, &Credential{}, credentialKeys)
	case KindPolicy:
		doc = build(r, body, &Policy{}, policyKeys)
	case KindRules:
		doc = build(r, body, newRules(), rulesKeys)
	case KindEngine:
		doc = build(r, body, newEngine(), engineKeys)
	case KindScan:
		doc = build(r, body, newScanPolicy(), scanKeys)
	case KindArchive:
		doc = build(r, body, newArchive(), archiveKeys)
	case KindWebhook:
		doc = build(r, body, newWebhook(), webhookKeys)
	case "":
		r.fail(body, "the document has no kind; kinds are %s", strings.Join(kinds, ", "))
	default:
		r.fail(body, "unknown kind %q; kinds are %s", kind, strings.Join(kinds, ", "))
	}
	if len(r.errs) > 0 {
		return Document{}, r.errs
	}
	return doc, r.complete(&doc, body)
}

func kindOf(body ast.Node) string {
	entries, _ := mapping(body)
	for _, e := range entries {
		if scalar(e.Key) == "kind" {
			return scalar(e.Value)
		}
	}
	return ""
}

func build[T any](r *reading, body ast.Node, into *T, keys []key[T]) Document {
	canon := read(r, body, "", into, keys)
	doc := Document{
		file: r.file, line: r.lineOf(body), lines: r.lines, value: into,
		text: r.text, secrets: r.secrets, masked: r.masked,
	}
	if doc.text == "" {
		doc.text = r.write(body, canon, nil)
	}
	doc.YAML = doc.text
	if len(r.secrets) > 0 {
		shown := map[string]string{}
		for key, s := range r.secrets {
			shown[key] = hide(s)
		}
		doc.YAML = r.write(body, canon, shown)
	}
	if len(r.masked) > 0 {
		doc.canon = canon
	}
	return doc
}

func (r *reading) write(body ast.Node, canon yaml.MapSlice, by map[string]string) string {
	text, err := replaced(canon, by)
	if err != nil {
		r.fail(body, "can't be written: %s", err)
	}
	return text
}

// complete checks what a document needs as a whole and names it.
func (r *reading) complete(doc *Document, body ast.Node) Errors {
	missing := func(key string) {
		if _, ok := r.lines[key]; !ok {
			r.fail(body, "%s is missing", key)
		}
	}
	switch v := doc.value.(type) {
	case *Queue:
		missing("name")
		doc.Ref = Ref{KindQueue, v.Name}
	case *Tenant:
		missing("name")
		if _, given := r.lines["queue"]; !given {
			v.Queue = v.Name
		}
		doc.Ref = Ref{KindTenant, v.Name}
	case *Route:
		missing("name")
		missing("via")
		doc.Ref = Ref{KindRoute, v.Name}
		if v.NullSender && v.Domain == "" {
			v.Domain = "*"
		} else if v.Domain == "" {
			missing("match.domain")
		}
	case *Credential:
		missing("name")
		missing("tenant")
		doc.Ref = Ref{KindCredential, v.User}
	case *Policy:
		missing("name")
		doc.Ref = Ref{KindPolicy, v.Name}
		r.completePolicy(v, body)
	case *Rules:
		missing("name")
		doc.Ref = Ref{KindRules, v.Service}
	case *Engine:
		missing("name")
		doc.Ref = Ref{KindEngine, v.Name}
		r.completeEngine(v, body)
	case *ScanPolicy:
		missing("name")
		doc.Ref = Ref{KindScan, v.Name}
		r.completeScan(v, body)
	case *Archive:
		missing("name")
		missing("sink")
		doc.Ref = Ref{KindArchive, v.Name}
		r.completeArchive(v, body)
	case *Webhook:
		doc.Ref = Ref{KindWebhook, v.Name}
		r.completeWebhook(v, missing, func(format string, args ...any) { r.fail(body, format, args...) })
	case *Site:
		doc.Ref = Ref{KindSite, siteName}
	}
	return r.errs
}

// sorted orders documents by kind, then name.
func sorted(docs []Document) []Document {
	return slices.SortedFunc(slices.Values(docs), func(a, b Document) int { return compareRefs(a.Ref, b.Ref) })
}
