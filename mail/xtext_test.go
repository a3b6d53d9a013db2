package mail

import (
	"errors"
	"testing"
)

func TestDecodeXtext(t *testing.T) {
	for in, want := range map[string]string{
		"abc":        "abc",
		"a+2Bb+3Dc":  "a+b=c",
		"a+20b":      "a b",
		"":           "",
		"QQ314159":   "QQ314159",
		"a+40b.c+2B": "a@b.c+",
	} {
		got, err := DecodeXtext(in)
		if err != nil || got != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	for _, bad := range []string{"a+", "a+2", "a+2b", "a+GG", "a=b", "a b", "a+0D+0A", "a+00", "\x80", "+FF"} {
		if got, err := DecodeXtext(bad); !errors.Is(err, ErrXtext) {
			t.Errorf("%q taken as %q", bad, got)
		}
	}
}

func TestORCPT(t *testing.T) {
	for _, tt := range []struct{ in, want, ascii, utf8 string }{
		{"rfc822;a+2Bb@acme.example", "rfc822;a+b@acme.example", "rfc822;a+2Bb@acme.example", "rfc822;a+2Bb@acme.example"},
		{"RFC822;a@acme.example", "rfc822;a@acme.example", "rfc822;a@acme.example", "rfc822;a@acme.example"},
		{`utf-8;j\x{FC}rg@acme.example`, "utf-8;jürg@acme.example", `utf-8;j\x{FC}rg@acme.example`, "utf-8;jürg@acme.example"},
		{`utf-8;a\x{2B}b@acme.example`, "utf-8;a+b@acme.example", `utf-8;a\x{2B}b@acme.example`, `utf-8;a\x{2B}b@acme.example`},
		{"x400;c+3Dus", "x400;c=us", "x400;c+3Dus", "x400;c+3Dus"},
	} {
		got, err := DecodeORCPT(tt.in)
		if err != nil || got != tt.want {
			t.Errorf("%q: %q, %v", tt.in, got, err)
			continue
		}
		if a, u := EncodeORCPT(got, false), EncodeORCPT(got, true); a != tt.ascii || u != tt.utf8 {
			t.Errorf("%q encoded %q and %q", got, a, u)
		}
	}
	for _, bad := range []string{"", "rfc822", ";a", "rfc822;", "rfc822;a+0Ab", `utf-8;\x{0A}`, `utf-8;\x{D800}`, `utf-8;\x{`, `utf-8;a\b`, "utf-8;\xff", "r c;a"} {
		if got, err := DecodeORCPT(bad); !errors.Is(err, ErrXtext) {
			t.Errorf("%q taken as %q", bad, got)
		}
	}
}

func FuzzXtext(f *testing.F) {
	f.Add("rfc822;a+2Bb")
	f.Add(`utf-8;\x{FC}`)
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := DecodeXtext(s); err == nil {
			if again, err := DecodeXtext(EncodeXtext(d)); err != nil || again != d {
				t.Fatalf("%q, %q, %q: %v", s, d, again, err)
			}
		}
		if d, err := DecodeORCPT(s); err == nil {
			for _, utf8 := range []bool{false, true} {
				if again, err := DecodeORCPT(EncodeORCPT(d, utf8)); err != nil || again != d {
					t.Fatalf("%q, %q, %q: %v", s, d, again, err)
				}
			}
		}
	})
}
