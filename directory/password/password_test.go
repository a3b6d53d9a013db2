package password

import (
	"strings"
	"testing"
)

// reference is a row of the tests of argon2's reference implementation.
const reference = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"

func TestHash(t *testing.T) {
	h := New("correct horse")
	again, err := Parse(h.String())
	if err != nil || !again.Matches("correct horse") || again.Matches("correct hors") || again.Matches("") {
		t.Errorf("%+v, %v", again, err)
	}
	if New("correct horse").String() == h.String() {
		t.Error("no new salt")
	}
	if !strings.HasPrefix(h.String(), "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("form %s", h)
	}
	if other, err := Parse(reference); err != nil || !other.Matches("password") || other.String() != reference {
		t.Errorf("%v, %v", other, err)
	}
}

func TestParseRefuses(t *testing.T) {
	const salt, key = "c29tZXNhbHQ", "RdescudvJCsgt3ub+b+dWRWJTmaaZzzz"
	for _, s := range []string{
		"", "$", "secret", "$argon2i$v=19$m=64,t=3,p=2$" + salt + "$" + key,
		"$argon2id$v=16$m=64,t=3,p=2$" + salt + "$" + key,
		"$argon2id$v=19$m=064,t=3,p=2$" + salt + "$" + key,
		"$argon2id$v=19$m=64,t=3,p=2,x=1$" + salt + "$" + key,
		"$argon2id$v=19$m=64,t=3$" + salt + "$" + key,
		"$argon2id$v=19$m=64,t=3,p=999$" + salt + "$" + key,
		"$argon2id$v=19$m=8,t=3,p=2$" + salt + "$" + key,
		"$argon2id$v=19$m=64,t=0,p=2$" + salt + "$" + key,
		"$argon2id$v=19$m=64,t=65,p=2$" + salt + "$" + key,
		"$argon2id$v=19$m=262145,t=1,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=262144,t=17,p=1$" + salt + "$" + key,
		"$argon2id$v=19$m=64,t=3,p=2$c2FsdA$" + key,
		"$argon2id$v=19$m=64,t=3,p=2$" + salt + "$c2FsdA",
		"$argon2id$v=19$m=64,t=3,p=2$" + salt + "$!!!",
		"$argon2id$v=19$m=64,t=3,p=2$" + salt + "=$" + key,
	} {
		if _, err := Parse(s); err == nil {
			t.Errorf("%s was taken", s)
		} else if strings.Contains(err.Error(), key) {
			t.Errorf("%q tells the hash", err)
		}
	}
	if _, err := Parse("$argon2id$v=19$m=64,t=3,p=2$" + salt + "$" + key); err != nil {
		t.Error(err)
	}
}

// RFC 7677 3: user "user", password "pencil".
const pencil = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

func TestVerifier(t *testing.T) {
	v, err := ParseVerifier(pencil)
	if err != nil || v.String() != pencil {
		t.Fatalf("%s, %v", v, err)
	}
	if !v.Matches("pencil") || v.Matches("pencils") {
		t.Error("matches wrongly")
	}
	made, err := ParseVerifier(NewVerifier("pencil").String())
	if err != nil || !made.Matches("pencil") || made.Iterations != Iterations {
		t.Errorf("%v, %v", made, err)
	}
	for _, s := range []string{
		"", "SCRAM-SHA-256", "SCRAM-SHA-1" + pencil[13:], strings.Replace(pencil, "4096", "4095", 1),
		strings.Replace(pencil, "4096", "1000001", 1), strings.Replace(pencil, "4096", "+4096", 1),
		strings.Replace(pencil, "W22ZaJ0SNY7soEsUEjb6gQ==", "W22Z", 1), strings.Replace(pencil, "$WG5d", "$", 1),
		strings.Replace(pencil, ":wfP", "wfP", 1), pencil + "$", pencil + "!",
	} {
		if _, err := ParseVerifier(s); err == nil {
			t.Errorf("%s was taken", s)
		}
	}
}

func TestPrepare(t *testing.T) {
	for in, want := range map[string]string{
		"secret": "secret", "a b": "a b", "a\u00a0b": "a b", "u\u0308": "\u00fc",
		"": "", "a\x00b": "", "a\nb": "", "\xff": "", strings.Repeat("x", 1025): "",
	} {
		got, err := Prepare(in)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v", in, got, err)
		}
		if err != nil && len(in) > 1 && strings.Contains(err.Error(), in) {
			t.Errorf("%v tells the password", err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(New("x").String())
	f.Add(pencil)
	f.Add("$argon2id$v=19$m=10,t=1,p=1$000\r00000000$000000000000000000000A")
	f.Fuzz(func(t *testing.T, s string) {
		if h, err := Parse(s); err == nil && h.String() != s {
			t.Errorf("%q became %q", s, h)
		}
		if v, err := ParseVerifier(s); err == nil && v.String() != s {
			t.Errorf("%q became %q", s, v)
		}
	})
}
