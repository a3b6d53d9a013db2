package directory

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"google.golang.org/protobuf/proto"

	pb "qstream/schemas/qstream/v1"
)

// hidden stands before what is shown instead of a secret: some digits of its
// hash, so that people see whether it changed. The secrets are salted hashes
// themselves, of which these digits tell nothing.
const hidden = "hidden:"

func hide(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hidden + hex.EncodeToString(sum[:4])
}

// secret reads a text that must not be shown. What stands for a hidden one is
// kept for resolve.
func secret[T any](v *value, parse func(string) (T, error)) *T {
	s := v.text()
	if strings.HasPrefix(s, hidden) {
		v.doc.masked = with(v.doc.masked, v.path, s)
		return nil
	}
	v.doc.secrets = with(v.doc.secrets, v.path, s)
	out, err := parse(s)
	if err != nil {
		v.fail("%s", err)
	}
	return &out
}

func with(m map[string]string, key, value string) map[string]string {
	if m == nil {
		m = map[string]string{}
	}
	m[key] = value
	return m
}

// replaced is a canonical document with other values of some keys.
func replaced(canon yaml.MapSlice, by map[string]string) (string, error) {
	out := make(yaml.MapSlice, len(canon))
	for i, item := range canon {
		if key, ok := item.Key.(string); ok && by[key] != "" {
			item.Value = by[key]
		}
		out[i] = item
	}
	text, err := yaml.Marshal(out)
	return string(text), err
}

// resolve puts back what a document hides, if it is what head holds: so what
// get printed can be edited and applied.
func (d Document) resolve(head Document) (Document, *Error) {
	if len(d.masked) == 0 {
		return d, nil
	}
	back := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(d.masked)) {
		shown := d.masked[key]
		kept, ok := head.secrets[key]
		if !ok || hide(kept) != shown {
			return d, d.at(key, key+" is hidden, and another one than "+shown+" is in force: give the value itself")
		}
		back[key] = kept
	}
	text, err := replaced(d.canon, back)
	if err != nil {
		return d, d.at("", err.Error())
	}
	whole := readEntry(0, d.Ref, text)
	if whole.err != nil {
		return d, d.at("", whole.err.Error())
	}
	whole.doc.file, whole.doc.line, whole.doc.lines = d.file, d.line, d.lines
	return whole.doc, nil
}

// Shown is an apply as people may see it: secrets are hidden.
func Shown(a *pb.Apply) *pb.Apply {
	out := proto.CloneOf(a)
	for _, d := range out.Documents {
		if d.Yaml != "" {
			d.Yaml = readEntry(a.Number, Ref{d.Kind, d.Name}, d.Yaml).doc.YAML
		}
	}
	return out
}
