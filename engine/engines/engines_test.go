package engines

import (
	"testing"

	"qstream/engine"
)

func TestNew(t *testing.T) {
	examples := map[string]engine.Spec{
		engine.TypeClamd:   {Network: "unix", Address: "/s"},
		engine.TypeRspamd:  {Network: "tcp", Address: "127.0.0.1:1"},
		engine.TypeMilter:  {Network: "tcp", Address: "127.0.0.1:1"},
		engine.TypeICAP:    {Network: "tcp", Address: "127.0.0.1:1", Service: "avscan"},
		engine.TypeUnpack:  {},
		engine.TypeCommand: {Program: []string{"/usr/bin/clamdscan", "--fdpass", "--no-summary"}},
		engine.TypeWrapper: {Program: []string{"/var/qmail/bin/qmail-queue-scan"}},
		engine.TypeTypes:   {MIMETypes: "TVqQAAMAA\n"},
	}
	for _, typ := range engine.Types {
		spec, ok := examples[typ]
		if !ok {
			t.Errorf("%s has no example", typ)
			continue
		}
		spec.Name, spec.Type = "e-"+typ, typ
		e, err := New(spec)
		if err != nil {
			t.Errorf("%s: %v", typ, err)
			continue
		}
		if e.Name() != spec.Name {
			t.Errorf("%s is called %s", typ, e.Name())
		}
		if err := e.Close(); err != nil {
			t.Errorf("%s: %v", typ, err)
		}
	}
	for _, spec := range []engine.Spec{
		{Type: "quantum"}, {Type: engine.TypeCommand}, {Type: engine.TypeWrapper}, {Type: engine.TypeTypes}, {Type: engine.TypeClamd}, {Type: engine.TypeUnpack, Depth: -1}, {Type: engine.TypeICAP, Network: "tcp", Address: "127.0.0.1:1"},
	} {
		if e, err := New(spec); err == nil || e != nil {
			t.Errorf("%+v: %v, %v", spec, e, err)
		}
	}
}
