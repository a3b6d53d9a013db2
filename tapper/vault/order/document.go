package order

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"qstream/directory"
	"qstream/mail"
)

// Kind is what a document of an order says it is.
const Kind = "tap"

// Bounds of documents: the YAML parser recurses, and is slow on long text.
const (
	maxDocument = 1 << 20
	maxDepth    = 16
)

// document is an order as people write it.
type document struct {
	Kind      string `yaml:"kind"`
	Reference string `yaml:"reference"`
	Who       []Rule `yaml:"who"`
	What      string `yaml:"what"`
	From      string `yaml:"from"`
	Until     string `yaml:"until"`
	Retro     bool   `yaml:"retro"`
	Sink      string `yaml:"sink"`
	Encrypt   string `yaml:"encrypt"`
}

// Parse reads the orders of a file, a YAML document each, separated by "---".
// Each gets an id. from may be left out: now; until may be how long after from
// it is, such as 90d. Errors name the document and wrap ErrInvalid.
func Parse(text []byte, now time.Time) ([]Order, error) {
	if len(text) > maxDocument {
		return nil, fmt.Errorf("%w: longer than %d MiB", ErrInvalid, maxDocument>>20)
	}
	if deep(text) {
		return nil, fmt.Errorf("%w: nested too deeply", ErrInvalid)
	}
	var orders []Order
	for i, part := range documents(text) {
		d, err := readDocument(part)
		if err != nil {
			return nil, fmt.Errorf("%w: document %d: %w", ErrInvalid, i+1, err)
		}
		o, err := d.order(now)
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", i+1, err)
		}
		orders = append(orders, o)
	}
	if len(orders) == 0 {
		return nil, fmt.Errorf("%w: no document of an order", ErrInvalid)
	}
	return orders, nil
}

// documents are the parts of a text that say something.
func documents(text []byte) (parts [][]byte) {
	var part bytes.Buffer
	says := false
	end := func() {
		if says {
			parts = append(parts, bytes.Clone(part.Bytes()))
		}
		part.Reset()
		says = false
	}
	for line := range bytes.Lines(text) {
		bare := bytes.TrimSpace(line)
		if bytes.HasPrefix(line, []byte("---")) && len(bare) == 3 {
			end()
			continue
		}
		says = says || len(bare) > 0 && bare[0] != '#'
		part.Write(line)
	}
	end()
	return parts
}

// deep is whether brackets or dashes nest deeper than any order does.
func deep(text []byte) bool {
	depth := 0
	for line := range bytes.Lines(text) {
		for _, c := range line {
			switch c {
			case '[', '{':
				depth++
			case ']', '}':
				depth = max(depth-1, 0)
			}
			if depth > maxDepth {
				return true
			}
		}
		if bytes.Count(line, []byte("- ")) > maxDepth || bytes.Count(line, []byte("? ")) > maxDepth {
			return true
		}
	}
	return false
}

// readDocument guards against panics of the parser.
func readDocument(text []byte) (d document, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("is no YAML that can be read: %v", p)
		}
	}()
	err = yaml.UnmarshalWithOptions(text, &d, yaml.Strict())
	if err != nil {
		err = fmt.Errorf("%s", yaml.FormatError(err, false, false))
	}
	return d, err
}

func (d document) order(now time.Time) (Order, error) {
	if d.Kind != Kind {
		return Order{}, fmt.Errorf("%w: kind: want %s", ErrInvalid, Kind)
	}
	from, until := now, time.Time{}
	var err error
	if d.From != "" {
		if from, err = parseTime(d.From); err != nil {
			return Order{}, fmt.Errorf("%w: from: %w", ErrInvalid, err)
		}
	}
	if after, e := directory.ParseDuration(d.Until); e == nil {
		until = from.Add(after)
	} else if until, err = parseTime(d.Until); err != nil {
		return Order{}, fmt.Errorf("%w: until: %w", ErrInvalid, err)
	}
	return Order{
		ID: mail.NewID(now), Reference: d.Reference, Who: d.Who, What: d.What, From: from, Until: until,
		Retro: d.Retro, Sink: d.Sink, Encrypt: d.Encrypt,
	}.Complete()
}

// parseTime reads a time or the beginning of a day in UTC.
func parseTime(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, strings.TrimSpace(s)); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q: want a time such as 2026-01-02T15:04:05Z, or a day such as 2026-01-02 (its beginning, UTC)", mail.Printable(s))
}

// YAML is an order as Parse reads it, but for its id.
func (o Order) YAML() (string, error) {
	doc := yaml.MapSlice{{Key: "kind", Value: Kind}, {Key: "reference", Value: o.Reference}}
	var who []yaml.MapSlice
	for _, r := range o.Who {
		var rule yaml.MapSlice
		for _, f := range []struct{ key, value string }{{"sender", r.Sender}, {"recipient", r.Recipient}, {"domain", r.Domain}, {"tenant", r.Tenant}} {
			if f.value != "" {
				rule = append(rule, yaml.MapItem{Key: f.key, Value: f.value})
			}
		}
		who = append(who, rule)
	}
	doc = append(doc, yaml.MapItem{Key: "who", Value: who}, yaml.MapItem{Key: "what", Value: o.What},
		yaml.MapItem{Key: "from", Value: timeText(o.From)}, yaml.MapItem{Key: "until", Value: timeText(o.Until)})
	if o.Retro {
		doc = append(doc, yaml.MapItem{Key: "retro", Value: true})
	}
	doc = append(doc, yaml.MapItem{Key: "sink", Value: o.Sink})
	if o.Encrypt != "" {
		doc = append(doc, yaml.MapItem{Key: "encrypt", Value: o.Encrypt})
	}
	text, err := yaml.Marshal(doc)
	return string(text), err
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.RFC3339)
}
