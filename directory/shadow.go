package directory

import (
	"errors"
	"fmt"

	"github.com/goccy/go-yaml"
)

// ErrNoShadow is a promotion where nothing stands in a shadow.
var ErrNoShadow = errors.New("no policy is its shadow")

// shadowOf is the name of the policy that is compared with the one in force
// for a tenant's mail in a queue; empty: none. It is named where the policy in
// force is named, else by that policy itself.
func (s *Snapshot) shadowOf(t *Tenant, q *Queue) string {
	live, name := scanOf(t, q), t.Shadow
	if name == "" && t.Scan == "" {
		name = q.Shadow
	}
	if p := s.scans[live]; p != nil && name == "" {
		name = p.Shadow
	}
	if live == "" || name == live {
		return ""
	}
	return name
}

// shadowNamed refuses a shadow that is nothing, has nothing to be compared
// with, or has one itself. own is the policy that the document names, live the
// one in force. A tenant may be ahead of its queue: what is the queue's policy
// by now is no shadow any more.
func (c *checker) shadowNamed(d *Document, name, own, live string) {
	shadow := c.scans[name]
	switch {
	case name == "":
	case shadow == nil:
		c.fail(d, "shadow", "there is no scan policy %q", name)
	case name == own:
		c.fail(d, "shadow", "scan policy %s can't be compared with itself", name)
	case live == "":
		c.fail(d, "shadow", "there is no scan policy to compare %s with: name one by scan, if need be one with engines: []", name)
	case shadow.Shadow != "":
		c.fail(d, "shadow", "scan policy %s has a shadow itself, %s", name, shadow.Shadow)
	}
}

// Promotion is a change that puts a shadow in force for a tenant or a queue.
type Promotion struct {
	Document Document // to be applied
	Live     string   // name of the policy that was in force
	Shadow   string   // that will be
}

// Promote makes the document of a tenant or queue as it has to be for its
// shadow to be its policy. The error wraps ErrNoShadow if it has none.
func (s *Snapshot) Promote(ref Ref) (Promotion, error) {
	var p Promotion
	switch t, q := s.tenants[ref.Name], s.queues[ref.Name]; {
	case ref.Kind == KindTenant && t != nil:
		q = s.queues[t.Queue]
		p.Live, p.Shadow = scanOf(t, q), s.shadowOf(t, q)
	case ref.Kind == KindQueue && q != nil:
		p.Live, p.Shadow = q.Scan, s.shadowOf(&Tenant{}, q)
	}
	if p.Shadow == "" {
		return p, fmt.Errorf("%s: %w", ref, ErrNoShadow)
	}
	d, ok := s.Document(ref)
	if !ok {
		return p, fmt.Errorf("%s has no document of its own: apply one first", ref)
	}
	text, err := promoted(d.text, p.Shadow)
	if err != nil {
		return p, fmt.Errorf("%s: %w", ref, err)
	}
	docs, err := Parse(File{Name: ref.String(), Data: text})
	if err == nil && (len(docs) != 1 || docs[0].Ref != ref) {
		err = fmt.Errorf("%s can't be written anew", ref)
	}
	if err != nil {
		return p, err
	}
	p.Document = docs[0]
	return p, nil
}

// promoted is a canonical document with another policy and no shadow.
func promoted(text, name string) ([]byte, error) {
	var was, now yaml.MapSlice
	if err := yaml.UnmarshalWithOptions([]byte(text), &was, yaml.UseOrderedMap()); err != nil {
		return nil, err
	}
	for _, item := range was {
		if item.Key != "scan" && item.Key != "shadow" {
			now = append(now, item)
		}
	}
	return yaml.Marshal(append(now, yaml.MapItem{Key: "scan", Value: name}))
}
