package mail

import (
	"testing"

	"pgregory.net/rapid"
)

func TestFromRaw(t *testing.T) {
	for in, want := range map[string]string{
		"a@b.example": "a@b.example", "a b@c.example": `"a b"@c.example`, `"a b"@c.example`: `"a b"@c.example`,
		"": "", "nobody": "nobody", "@b.example": "@b.example", "a b@": "a b@", "a\r\nb@c.example": "a\r\nb@c.example",
		"a@b@c.example": `"a@b"@c.example`, "postmaster": "postmaster",
	} {
		if got := FromRaw(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

func TestRawReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := Address{Local: rapid.StringMatching(`[a-z@ .\\]{1,10}`).Draw(t, "local"), Domain: "b.example"}
		got, err := ParseAddress(FromRaw(a.Raw()), true)
		if err != nil || got != a {
			t.Fatalf("%q read back as %q, %v", a, got, err)
		}
	})
}
