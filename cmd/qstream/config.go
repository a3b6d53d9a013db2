package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	yamlparser "github.com/goccy/go-yaml/parser"
)

// settingsOnly takes their QSTREAM_* variable from flags that say what one
// call shall do (send --to, apply --prune): left behind in an environment or a
// file, they would do it again. What is left are settings: all flags of a verb
// that runs, and how the others find a system.
func settingsOnly(k *kong.Kong) error {
	var mark func(n *kong.Node)
	mark = func(n *kong.Node) {
		for _, f := range n.Flags {
			if !runs(n) && !finds(f) {
				f.Envs, f.Tag.Envs = nil, nil
			}
		}
		for _, child := range n.Children {
			mark(child)
		}
	}
	mark(k.Model.Node)
	return nil
}

func runs(n *kong.Node) bool {
	switch n.Name {
	case "up", "ingest", "router", "scanner", "deliver", "delay", "tapper", "ledger", "qmail-queue", "qmail-qmqpc":
		return true
	}
	return false
}

func finds(f *kong.Flag) bool {
	switch f.Name {
	case "config", "data", "api", "http", "smtp":
		return true
	}
	return f.Name == "kafka" || strings.HasPrefix(f.Name, "kafka-")
}

// settings are the process settings of one YAML file. A key is the name of a
// flag; it holds for every verb that has the flag, or for one verb when it
// stands under the verb's name:
//
//	kafka: [k1:9092, k2:9092]
//	http: 127.0.0.1:8025
//	deliver:
//	  http: 127.0.0.1:8026
//
// Flags win over QSTREAM_* variables, those over the file, the file over the
// defaults. A key that is no flag is an error.
type settings struct {
	file   string
	values []setting
}

// setting is one key of the file.
type setting struct {
	verb  string // empty: every verb
	name  string
	value any
	line  int
}

// loadSettings reads a file; it has the shape that kong.Configuration wants.
func loadSettings(r io.Reader) (kong.Resolver, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	s := &settings{file: "settings"}
	if f, ok := r.(*os.File); ok {
		s.file = f.Name()
	}
	return s, s.parse(text)
}

func (s *settings) parse(text []byte) error {
	file, err := yamlparser.ParseBytes(text, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", s.file, err)
	}
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if err := s.collect("", doc.Body); err != nil {
			return err
		}
	}
	return nil
}

// collect takes the keys of one mapping; below a verb's name it goes one
// level down.
func (s *settings) collect(verb string, node ast.Node) error {
	var pairs []*ast.MappingValueNode
	switch n := node.(type) {
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	case *ast.CommentGroupNode:
		return nil
	default:
		return s.fault(node.GetToken().Position.Line, "want keys and values")
	}
	for _, pair := range pairs {
		line, name := pair.Key.GetToken().Position.Line, pair.Key.String()
		switch pair.Value.(type) {
		case *ast.MappingNode, *ast.MappingValueNode:
			if verb != "" {
				return s.fault(line, "%s.%s: a setting has no keys of its own", verb, name)
			}
			if err := s.collect(name, pair.Value); err != nil {
				return err
			}
			continue
		}
		var value any
		if err := yaml.NodeToValue(pair.Value, &value); err != nil {
			return fmt.Errorf("%s: %w", s.file, err)
		}
		s.values = append(s.values, setting{verb: verb, name: name, value: value, line: line})
	}
	return nil
}

func (s *settings) fault(line int, format string, args ...any) error {
	return fmt.Errorf("%s:%d: %s", s.file, line, fmt.Sprintf(format, args...))
}

// Validate refuses keys that are no flag of the verb, or of any verb.
func (s *settings) Validate(app *kong.Application) error {
	var faults []error
	for _, v := range s.values {
		switch {
		case v.verb == "" && !hasFlag(app.Node, v.name):
			faults = append(faults, s.fault(v.line, "unknown setting %q", v.name))
		case v.verb != "" && findVerb(app.Node, v.verb) == nil:
			faults = append(faults, s.fault(v.line, "unknown verb %q", v.verb))
		case v.verb != "" && !hasFlag(findVerb(app.Node, v.verb), v.name):
			faults = append(faults, s.fault(v.line, "unknown setting %q of %s", v.name, v.verb))
		}
	}
	return errors.Join(faults...)
}

// Resolve gives a flag its value from the file, unless the environment has
// one. The verb's own key wins over the key for all.
func (s *settings) Resolve(_ *kong.Context, parent *kong.Path, flag *kong.Flag) (any, error) {
	if len(flag.Envs) == 0 {
		return nil, nil
	}
	for _, env := range flag.Envs {
		if _, ok := os.LookupEnv(env); ok {
			return nil, nil
		}
	}
	var found any
	for _, v := range s.values {
		if v.name != flag.Name {
			continue
		}
		if v.verb == "" && found == nil || v.verb != "" && parent.Node() != nil && parent.Node().Name == v.verb {
			found = v.value
		}
	}
	return flatten(found), nil
}

// flatten makes a list the text that kong splits again.
func flatten(v any) any {
	switch n := v.(type) {
	case int64, uint64:
		return fmt.Sprint(n) // as on the command line: a flag may want a text or a number
	}
	list, ok := v.([]any)
	if !ok {
		return v
	}
	parts := make([]string, len(list))
	for i, p := range list {
		parts[i] = strings.ReplaceAll(fmt.Sprint(p), ",", `\,`)
	}
	return strings.Join(parts, ",")
}

func findVerb(n *kong.Node, name string) *kong.Node {
	for _, child := range n.Children {
		if child.Name == name {
			return child
		}
	}
	return nil
}

// hasFlag looks for a flag on a node and below it.
func hasFlag(n *kong.Node, name string) bool {
	for _, f := range n.Flags {
		if f.Name == name && len(f.Envs) > 0 {
			return true
		}
	}
	for _, child := range n.Children {
		if hasFlag(child, name) {
			return true
		}
	}
	return false
}
