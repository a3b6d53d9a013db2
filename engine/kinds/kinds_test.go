package kinds_test

import (
	"slices"
	"testing"

	"qstream/engine"
	"qstream/engine/kinds"
)

// specs has one of each type.
var specs = map[string]engine.Spec{
	engine.TypeClamd:   {Network: "unix", Address: "/run/clamd"},
	engine.TypeRspamd:  {Network: "tcp", Address: "127.0.0.1:11333"},
	engine.TypeMilter:  {Network: "tcp", Address: "127.0.0.1:8891"},
	engine.TypeICAP:    {Network: "tcp", Address: "127.0.0.1:1344", Service: "avscan"},
	engine.TypeUnpack:  {},
	engine.TypeCommand: {Program: []string{"/usr/bin/clamdscan", "--fdpass", "--no-summary"}},
	engine.TypeWrapper: {Program: []string{"/var/qmail/bin/qmail-queue-scan"}},
	engine.TypeTypes:   {MIMETypes: "TVqQAAMAA\n"},
}

func TestEveryTypeIsMade(t *testing.T) {
	for _, typ := range engine.Types {
		s, ok := specs[typ]
		if !ok {
			t.Errorf("%s has no example", typ)
			continue
		}
		s.Type, s.Name = typ, "first"
		e, err := kinds.New(s)
		if err != nil {
			t.Errorf("%s: %v", typ, err)
			continue
		}
		if e.Name() != "first" {
			t.Errorf("%s is named %q", typ, e.Name())
		}
		if err := e.Close(); err != nil {
			t.Errorf("%s: %v", typ, err)
		}
	}
	if len(specs) != len(engine.Types) {
		t.Errorf("%d examples of %d types", len(specs), len(engine.Types))
	}
}

func TestRefusals(t *testing.T) {
	for _, typ := range append(slices.Clone(engine.Types), "", "nonsense") {
		if typ == engine.TypeUnpack {
			continue // it needs nothing
		}
		if e, err := kinds.New(engine.Spec{Type: typ}); err == nil || e != nil {
			t.Errorf("%q without anything: %v, %v", typ, e, err)
		}
	}
}
