package wrapper

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"qstream/engine"
	"qstream/mail"
)

// The changes between two headers, made in the first as a delivery makes them,
// give the second.
func TestChangesMakeTheOther(t *testing.T) {
	kinds := map[engine.ChangeKind]mail.EditKind{
		engine.AddField: mail.EditAdd, engine.InsertField: mail.EditInsert, engine.ReplaceField: mail.EditReplace, engine.DeleteField: mail.EditDelete,
	}
	field := rapid.SampledFrom([]string{"A: 1\n", "A: 2\n", "B: 1\n", "b: 2\n", "C: 1\n\tmore\n", "D: 1\n"})
	rapid.Check(t, func(t *rapid.T) {
		before, after := rapid.SliceOfN(field, 0, 8).Draw(t, "before"), rapid.SliceOfN(field, 0, 8).Draw(t, "after")
		cs, err := changes(before, after)
		if err != nil {
			t.Fatal(err)
		}
		var edits []mail.Edit
		for _, c := range cs {
			edits = append(edits, mail.Edit{Kind: kinds[c.Kind], Index: c.Index, Name: c.Name, Value: c.Value})
		}
		crlf := func(fields []string) string { return strings.ReplaceAll(strings.Join(fields, ""), "\n", "\r\n") }
		if got, want := string(mail.EditHeader([]byte(crlf(before)), edits)), crlf(after); got != want {
			t.Fatalf("%v make %q of %q, want %q", edits, got, crlf(before), want)
		}
	})
}
