package directory

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"

	"qstream/mail"
)

// key is one key of a mapping that a T is read from.
type key[T any] struct {
	name string
	set  func(*T, *value)
}

// value is the node under a key. Its methods read it as one type; what does
// not fit is a fault in the document, and the zero value.
type value struct {
	doc   *reading
	node  ast.Node
	path  string
	canon any // what the canonical document holds
}

// reading is a document as it is being read.
type reading struct {
	file   string
	before int            // lines of the file before what the parser was given
	lines  map[string]int // line of each key
	text   string         // the canonical form, if it is known
	errs   Errors

	secrets, masked map[string]string // see Document
}

func (r *reading) fail(node ast.Node, format string, args ...any) {
	r.errs = append(r.errs, &Error{File: r.file, Line: r.lineOf(node), Reason: fmt.Sprintf(format, args...)})
}

func (r *reading) lineOf(node ast.Node) int {
	if node == nil || node.GetToken() == nil {
		return r.before + 1
	}
	return r.before + node.GetToken().Position.Line
}

// read sets what keys name from a mapping; other keys are faults. It returns
// the mapping in canonical form: in the order of keys.
func read[T any](r *reading, node ast.Node, path string, into *T, keys []key[T]) yaml.MapSlice {
	entries, ok := mapping(node)
	if !ok {
		r.fail(node, "%swants keys and values", prefixed(path))
		return nil
	}
	canon := make([]*yaml.MapItem, len(keys))
	for _, e := range entries {
		name := scalar(e.Key)
		i := find(keys, name)
		if i < 0 {
			r.fail(e.Key, "unknown key %q; known here are %s", path+name, names(keys))
			continue
		}
		v := &value{doc: r, node: e.Value, path: path + name}
		r.lines[v.path] = r.lineOf(e.Key)
		if !v.plain() {
			continue
		}
		keys[i].set(into, v)
		canon[i] = &yaml.MapItem{Key: name, Value: v.canon}
	}
	var out yaml.MapSlice
	for _, item := range canon {
		if item != nil {
			out = append(out, *item)
		}
	}
	return out
}

func prefixed(path string) string {
	if path == "" {
		return "the document "
	}
	return strings.TrimSuffix(path, ".") + " "
}

func mapping(node ast.Node) ([]*ast.MappingValueNode, bool) {
	switch n := node.(type) {
	case *ast.MappingNode:
		return n.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, true
	}
	return nil, false
}

func find[T any](keys []key[T], name string) int {
	for i, k := range keys {
		if k.name == name {
			return i
		}
	}
	return -1
}

func names[T any](keys []key[T]) string {
	all := make([]string, len(keys))
	for i, k := range keys {
		all[i] = k.name
	}
	return strings.Join(all, ", ")
}

// scalar is the text of a node as it was written, "" if it is no scalar.
func scalar(node ast.Node) string {
	switch n := node.(type) {
	case *ast.StringNode:
		return n.Value
	case *ast.LiteralNode:
		return n.Value.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode, *ast.MergeKeyNode:
		return n.GetToken().Value
	}
	return ""
}

// plain refuses what would make a document mean more than it shows, and keys
// without a value.
func (v *value) plain() bool {
	switch v.node.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		v.fail("anchors, aliases and tags are not for documents")
	case *ast.NullNode, nil:
		v.fail("has no value")
	default:
		return true
	}
	return false
}

func (v *value) fail(format string, args ...any) {
	v.doc.fail(v.node, "%s: %s", v.path, fmt.Sprintf(format, args...))
}

// text reads any scalar as text; it is printable and not empty.
func (v *value) text() string {
	s := scalar(v.node)
	switch {
	case s == "":
		v.fail("wants a text")
	case mail.Printable(s) != s:
		v.fail("holds control characters")
	}
	v.canon = s
	return s
}

func (v *value) integer(low, high int64) int64 {
	s := scalar(v.node)
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < low || n > high {
		v.fail("%q is no whole number from %d to %d", s, low, high)
		return low
	}
	v.canon = n
	return n
}

func (v *value) number(low, high float64) float64 {
	s := scalar(v.node)
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || !(n >= low && n <= high) {
		v.fail("%q is no number from %g to %g", s, low, high)
		return low
	}
	v.canon = n
	return n
}

func (v *value) boolean() bool {
	b, ok := v.node.(*ast.BoolNode)
	if !ok {
		v.fail("wants true or false")
		return false
	}
	v.canon = b.Value
	return b.Value
}

func (v *value) duration(low, high time.Duration) time.Duration {
	d, err := ParseDuration(scalar(v.node))
	switch {
	case err != nil:
		v.fail("%s", err)
	case d < low || d > high:
		v.fail("%s is not between %s and %s", scalar(v.node), FormatDuration(low), FormatDuration(high))
	}
	v.canon = scalar(v.node)
	return d
}

func (v *value) oneOf(choices ...string) string {
	s := v.text()
	for _, c := range choices {
		if s == c {
			return s
		}
	}
	v.fail("%q is none of %s", s, strings.Join(choices, ", "))
	return choices[0]
}

// list calls each for every element; one scalar stands for a list of one.
func (v *value) list(limit int, each func(*value)) {
	nodes := []ast.Node{v.node}
	if seq, ok := v.node.(*ast.SequenceNode); ok {
		nodes = seq.Values
	}
	if len(nodes) > limit {
		v.fail("holds %d values; %d is the limit", len(nodes), limit)
		return
	}
	canon := make([]any, 0, len(nodes))
	for i, n := range nodes {
		e := &value{doc: v.doc, node: n, path: v.path}
		v.doc.lines[element(v.path, i)] = v.doc.lineOf(n)
		if !e.plain() {
			continue
		}
		each(e)
		canon = append(canon, e.canon)
	}
	v.canon = canon
}

// parsed reads a scalar by parse.
func parsed[T any](v *value, parse func(string) (T, error)) T {
	out, err := parse(scalar(v.node))
	if err != nil {
		v.fail("%s", err)
	}
	v.canon = scalar(v.node)
	return out
}

// nested reads a mapping.
func nested[T any](v *value, into *T, keys []key[T]) {
	v.canon = read(v.doc, v.node, v.path+".", into, keys)
}
