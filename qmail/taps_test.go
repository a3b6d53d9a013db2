package qmail

import (
	"errors"
	"strings"
	"testing"
)

func TestParseTaps(t *testing.T) {
	text := strings.Join([]string{
		"# taps", "", "F:.*@acme\\.example:law@hub.example", "T:bob@acme.example:law@hub.example",
		"a:!^.*@acme.example$:all@hub.example", ".*@old.example:old@hub.example", "T:a{1:b@hub.example", "T:[[:alpha:]]+@acme.example:c@hub.example",
	}, "\n")
	taps, err := ParseTaps(text)
	if err != nil {
		t.Fatal(err)
	}
	want := []Tap{
		{Line: 3, Kind: TapFrom, Pattern: `.*@acme\.example`, To: "law@hub.example"},
		{Line: 4, Kind: TapTo, Pattern: "bob@acme.example", To: "law@hub.example"},
		{Line: 5, Kind: TapEither, Not: true, Pattern: "^.*@acme.example$", To: "all@hub.example"},
		{Line: 6, Kind: TapEither, Old: true, Pattern: ".*@old.example", To: "old@hub.example"},
		{Line: 7, Kind: TapTo, Pattern: "a{1", To: "b@hub.example"},
		{Line: 8, Kind: TapTo, Pattern: "[[:alpha:]]+@acme.example", To: "c@hub.example"},
	}
	if len(taps) != len(want) {
		t.Fatalf("%d lines, want %d: %+v", len(taps), len(want), taps)
	}
	for i, w := range want {
		got := taps[i]
		got.re, got.Broken = nil, nil
		if got != w {
			t.Errorf("line %d: %+v, want %+v", w.Line, got, w)
		}
	}
}

func TestTapsAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		"bob@acme.example":                        "line 1: want",
		"# x\nF::law@hub.example":                 "line 2: has no pattern",
		"F:!:law@hub.example":                     "line 1: has no pattern",
		"T:bob:":                                  "line 1: has no address",
		"T:" + strings.Repeat("a", 1001) + ":b@c": "line 1: its pattern is longer",
		"T:a\x00:b@c":                             "line 1: holds a NUL",
	} {
		if _, err := ParseTaps(text); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	var all LineErrors
	if _, err := ParseTaps("x\ny\n"); !errors.As(err, &all) || len(all) != 2 {
		t.Errorf("%v, want both lines", err)
	}
}

func TestTapped(t *testing.T) {
	taps, err := ParseTaps("F:ann@acme.example:1@x\nT:.*@dom.com:2@x\nA:BOB:3@x\nT:*broken:4@x\nT:a(:5@x\nF:!@acme:6@x\n")
	if err != nil {
		t.Fatal(err)
	}
	if taps[4].Broken == nil {
		t.Error("a( is taken for a regular expression")
	}
	for _, c := range []struct {
		name, sender, to string
		want             string
	}{
		{"by sender", "ANN@acme.example", "x@y", "1@x"},
		{"the first only", "ann@acme.example", "x@dom.com", "1@x"},
		{"unanchored", "z@acme", "x@dom.com.evil.example", "2@x"},
		{"a dot is any octet", "z@acme", "x@domxcom", "2@x"},
		{"either, recipient", "z@acme", "bobby@y", "3@x"},
		{"either, sender", "bob@y", "x@y", "3@x"},
		{"a broken one never", "z@acme", "a(", ""},
		{"negated", "z@other", "x@y", "6@x"},
		{"negated, null", "", "x@y", "6@x"},
		{"none", "z@acme", "x@y", ""},
	} {
		got, ok := Tapped(taps, c.sender, []string{c.to})
		if got.To != c.want || ok != (c.want != "") {
			t.Errorf("%s: %q, want %q", c.name, got.To, c.want)
		}
	}
}

func FuzzParseTaps(f *testing.F) {
	f.Add("F:.*@dom.com:law@hub.example\nx:y\n")
	f.Add("A:!(a|b){2,3}[[:digit:]]:c@d")
	f.Fuzz(func(t *testing.T, text string) {
		taps, err := ParseTaps(text)
		if err != nil {
			return
		}
		for i := range taps {
			p := &taps[i]
			if p.Line < 1 || p.Pattern == "" || p.To == "" || (p.re == nil) != (p.Broken != nil) {
				t.Fatalf("%+v", p)
			}
			if p.Broken != nil && p.Fits("a@b.example") != p.Not {
				t.Fatalf("a broken pattern fits: %+v", p)
			}
		}
		Tapped(taps, "a@b.example", []string{"c@d.example"})
	})
}
