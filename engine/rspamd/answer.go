package rspamd

import (
	"encoding/json"
	"net/http"
	"slices"
	"sort"

	"qstream/engine"
)

// reply is the part of rspamd's JSON that is used.
type reply struct {
	Skipped  bool              `json:"is_skipped"`
	Score    *float64          `json:"score"`
	Required float64           `json:"required_score"`
	Action   *string           `json:"action"`
	Subject  string            `json:"subject"`
	Symbols  map[string]symbol `json:"symbols"`
	Messages map[string]any    `json:"messages"`
	Milter   struct {
		Add    map[string]json.RawMessage `json:"add_headers"`
		Remove map[string]json.RawMessage `json:"remove_headers"`
	} `json:"milter"`
	Error string `json:"error"`
}

type symbol struct {
	Score   float64  `json:"score"`
	Options []string `json:"options"`
}

// actions are rspamd's, and what they mean here.
var actions = map[string]struct {
	outcome engine.Outcome
	advice  engine.Advice
}{
	"no action":       {engine.Clean, engine.NoAdvice},
	"greylist":        {engine.Clean, engine.Defer},
	"soft reject":     {engine.Clean, engine.Defer},
	"add header":      {engine.Spam, engine.Tag},
	"rewrite subject": {engine.Spam, engine.Tag},
	"quarantine":      {engine.Spam, engine.Quarantine},
	"discard":         {engine.Spam, engine.Discard},
	"reject":          {engine.Spam, engine.Refuse},
}

// verdict reads the answer to /checkv2.
func verdict(a answer) (engine.Verdict, error) {
	var r reply
	err := json.Unmarshal(a.body, &r)
	switch {
	case a.code == http.StatusRequestEntityTooLarge:
		return engine.Verdict{Outcome: engine.Unscannable, Reason: engine.TooLarge, Detail: engine.Text(r.Error)}, nil
	case a.code != http.StatusOK || r.Error != "":
		return engine.Verdict{}, engine.Fail(engine.Trouble, "rspamd answers %d %q", a.code, engine.Text(r.Error))
	case err != nil:
		return engine.Verdict{}, engine.Fail(engine.Broken, "the answer of rspamd: %w", err)
	case r.Action == nil || r.Score == nil:
		return engine.Verdict{}, engine.Fail(engine.Broken, "the answer of rspamd lacks score or action")
	}
	meaning, known := actions[*r.Action]
	if !known {
		return engine.Verdict{}, engine.Fail(engine.Broken, "rspamd wants %q", engine.Text(*r.Action))
	}
	v := engine.Verdict{Outcome: meaning.outcome, Advice: meaning.advice, Score: *r.Score, Threshold: r.Required}
	if said, ok := r.Messages["smtp_message"].(string); ok {
		v.Detail = engine.Text(said)
	}
	if r.Skipped && v.Detail == "" {
		v.Detail = "not all rules were asked"
	}
	v.Symbols = symbols(r.Symbols)
	v.Changes, err = changes(&r)
	return v, err
}

// symbols are the weightiest first; names settle ties.
func symbols(from map[string]symbol) []engine.Symbol {
	var all []engine.Symbol
	for name, s := range from {
		one := engine.Symbol{Name: engine.Text(name), Score: s.Score}
		for _, o := range s.Options[:min(len(s.Options), engine.MaxOptions)] {
			one.Options = append(one.Options, engine.Text(o))
		}
		all = append(all, one)
	}
	sort.Slice(all, func(i, j int) bool {
		a, b := max(all[i].Score, -all[i].Score), max(all[j].Score, -all[j].Score)
		return a > b || a == b && all[i].Name < all[j].Name
	})
	return all[:min(len(all), engine.MaxSymbols)]
}

// changes are those that a milter would make: what is removed first.
func changes(r *reply) ([]engine.Change, error) {
	var all []engine.Change
	add := func(kind engine.ChangeKind, index int, name, value string) error {
		c, err := engine.NewChange(kind, index, name, value)
		if err != nil {
			return engine.Fail(engine.Broken, "rspamd wants a header changed: %w", err)
		}
		if len(all) == engine.MaxChanges {
			return engine.Fail(engine.Broken, "rspamd wants more than %d header changes", engine.MaxChanges)
		}
		all = append(all, c)
		return nil
	}
	for _, name := range sorted(r.Milter.Remove) {
		for _, index := range indexes(r.Milter.Remove[name]) {
			if err := add(engine.DeleteField, index, name, ""); err != nil {
				return nil, err
			}
		}
	}
	if r.Subject != "" {
		if err := add(engine.ReplaceField, 1, "Subject", r.Subject); err != nil {
			return nil, err
		}
	}
	for _, name := range sorted(r.Milter.Add) {
		fields, ok := fields(r.Milter.Add[name])
		if !ok {
			return nil, engine.Fail(engine.Broken, "rspamd wants %q added without a value", engine.Text(name))
		}
		for _, f := range fields {
			kind := engine.AddField
			if f.Order != nil && *f.Order >= 0 { // what is negative counts from the end
				kind = engine.InsertField
			}
			if err := add(kind, f.index(), name, f.Value); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// field is a header to add: its value, and where it goes.
type field struct {
	Value string `json:"value"`
	Order *int   `json:"order"`
}

func (f field) index() int {
	if f.Order == nil {
		return 0
	}
	return *f.Order
}

// fields reads a value, an object, or a list of either.
func fields(raw json.RawMessage) ([]field, bool) {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return []field{{Value: text}}, true
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) == nil {
		var all []field
		for _, r := range list {
			var f field
			if json.Unmarshal(r, &f.Value) != nil && json.Unmarshal(r, &f) != nil {
				return nil, false
			}
			all = append(all, f)
		}
		return all, true
	}
	var one field
	err := json.Unmarshal(raw, &one)
	return []field{one}, err == nil
}

// indexes reads which fields of a name go: 0 is all of them.
func indexes(raw json.RawMessage) []int {
	var one int
	if json.Unmarshal(raw, &one) == nil {
		return []int{one}
	}
	var list []int
	if json.Unmarshal(raw, &list) == nil {
		return list
	}
	return []int{0}
}

func sorted(m map[string]json.RawMessage) []string {
	var names []string
	for n := range m {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}
