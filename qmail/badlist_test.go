package qmail

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const badSenders = `# what s/qmail's page shows
*@earthlink.example
!fred@earthlink.example
[0-9][0-9][0-9]@[0-9][0-9].example
answerme@save*
*%*
*
!
!*@*.*
nobody@acme.example
@spam.example
@yahoo.example-
@hotmail.example=
@mydomain.example+
~dialup.example
?good@spam.example
?????x@short.example
`

func TestAddressList(t *testing.T) {
	bad := strings.Replace(badSenders, "*\n!\n!*@*.*\n", "", 1)
	known, relay := Peer{Name: "mail.other.example"}, Peer{Name: "mail.other.example", Relay: true}
	for _, tt := range []struct {
		list, address string
		peer          Peer
		want          Match
	}{
		{bad, "bob@earthlink.example", known, Match{Bad: true, Line: 2}},
		{bad, "Fred@Earthlink.example", known, Match{Line: 3}},
		{bad, "123@45.example", known, Match{Bad: true, Line: 4}},
		{bad, "12a@45.example", known, Match{}},
		{bad, "answerme@savetrees.example", known, Match{Bad: true, Line: 5}},
		{bad, "a%b@acme.example", known, Match{Bad: true, Line: 6}},
		{bad, "Nobody@Acme.example", known, Match{Bad: true, Line: 7}},
		{bad, "x@spam.example", known, Match{Bad: true, Line: 8}},
		{bad, "x@sub.spam.example", known, Match{}},
		{bad, "good@spam.example", known, Match{Allowed: true, Line: 13}},
		{bad, "xgood@spam.example", known, Match{Bad: true, Line: 8}},
		{bad, "x@yahoo.example", known, Match{}},
		{bad, "x@yahoo.example", Peer{}, Match{Bad: true, Line: 9}},
		{bad, "x@hotmail.example", known, Match{Bad: true, Line: 10}},
		{bad, "x@hotmail.example", Peer{}, Match{}},
		{bad, "x@hotmail.example", Peer{Name: "MX1.hotmail.example"}, Match{}},
		{bad, "x@hotmail.example", Peer{Name: "nothotmail.example"}, Match{Bad: true, Line: 10}},
		{bad, "x@mydomain.example", known, Match{Bad: true, Line: 11}},
		{bad, "x@mydomain.example", relay, Match{}},
		{bad, "x@acme.example", Peer{Name: "h7.dialup.example"}, Match{Bad: true, Line: 12}},
		{bad, "x@dialup.example", Peer{Name: "h7.dialup.example"}, Match{}},
		{bad, "x@acme.example", Peer{Name: "h7.notdialup.example"}, Match{}},
		{bad, "abcdex@short.example", known, Match{Bad: true, Line: 14}},
		{bad, "", Peer{}, Match{}},
		{badSenders, "", known, Match{Line: 8}},
		{badSenders, "local-only", known, Match{Bad: true, Line: 7}},
		{badSenders, "x@acme.example", known, Match{Line: 9}},
		// badrcptto as a list of who may get mail
		{"*\n!user1@acme.example\n!*@other.example", "user1@acme.example", known, Match{Line: 2}},
		{"*\n!user1@acme.example\n!*@other.example", "user2@acme.example", known, Match{Bad: true, Line: 1}},
		{"*\n!user1@acme.example\n!*@other.example", "x@other.example", known, Match{Line: 3}},
	} {
		l, err := ParseList(tt.list)
		if err != nil {
			t.Fatal(err)
		}
		got := l.Address(tt.address, tt.peer)
		if got.Bad != tt.want.Bad || got.Allowed != tt.want.Allowed || got.Line != tt.want.Line {
			t.Errorf("%q from %+v: %+v, want %+v", tt.address, tt.peer, got, tt.want)
		}
	}
}

func TestHELOList(t *testing.T) {
	l, err := ParseList("localhost\n127.0.0.1\n[192.0.2.2]!\n[192.0.2.3]\n*.dialup.example\n!good.dialup.example\n")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]Match{
		"LOCALHOST":           {Bad: true, Line: 1},
		"127.0.0.1":           {Bad: true, Line: 2},
		"[192.0.2.2]":         {Allowed: true, Line: 3},
		"[192.0.2.3]":         {Bad: true, Line: 4},
		"h1.dialup.example":   {Bad: true, Line: 5},
		"good.dialup.example": {Line: 6},
		"mail.acme.example":   {},
		"":                    {},
	} {
		if got := l.HELO(name); got != want {
			t.Errorf("%q: %+v, want %+v", name, got, want)
		}
	}
	var none *List
	if none.HELO("x") != (Match{}) || none.Address("x@y", Peer{}) != (Match{}) {
		t.Error("no list says something")
	}
}

func TestWildmat(t *testing.T) {
	for _, tt := range []struct {
		pattern, text string
		want          bool
	}{
		{"", "", true}, {"", "a", false}, {"*", "", true}, {"**", "abc", true},
		{"a*c", "abbbc", true}, {"a*c", "abbbd", false}, {"?", "", false}, {"a?c", "abc", true},
		{"[]]", "]", true}, {"[-a]", "-", true}, {"[a-]", "-", true}, {"[a-c]x", "bx", true}, {"[^a-c]", "b", false},
		{"[^a-c]", "d", true}, {`\*`, "*", true}, {`\*`, "a", false}, {`a\`, "a", false}, {"[a", "a", false}, {"[", "[", false},
		{"*a*b*c", "xaxbxc", true}, {"*@*.*", "a@b", false},
	} {
		if got := wildmat(tt.pattern, tt.text); got != tt.want {
			t.Errorf("%q on %q: %v", tt.pattern, tt.text, got)
		}
	}
}

// A pattern full of stars costs no more than the product of the lengths.
func TestWildmatIsBounded(t *testing.T) {
	started := time.Now()
	if wildmat(strings.Repeat("*a", 400)+"b", strings.Repeat("a", 900)) {
		t.Error("it matches")
	}
	if d := time.Since(started); d > 20*time.Second {
		t.Error(d)
	}
}

// A quoted pattern matches its text and nothing else.
func TestWildmatProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		other := rapid.String().Draw(t, "other")
		var quoted strings.Builder
		for i := range len(text) {
			quoted.WriteByte('\\')
			quoted.WriteByte(text[i])
		}
		if !wildmat(quoted.String(), text) || wildmat(quoted.String(), other) != (text == other) {
			t.Errorf("%q and %q", text, other)
		}
		if !wildmat("*"+quoted.String()+"*", other+text+other) {
			t.Errorf("%q is not found in %q", text, other+text+other)
		}
	})
}

func FuzzList(f *testing.F) {
	f.Add(badSenders, "a@b", "name")
	f.Add("[", "[", "")
	f.Fuzz(func(t *testing.T, text, address, name string) {
		l, err := ParseList(text)
		if err != nil {
			return
		}
		m := l.Address(address, Peer{Name: name})
		if m.Bad && (m.Allowed || m.Line == 0) {
			t.Errorf("%+v", m)
		}
		l.HELO(name)
	})
}
