package sign

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The example that the implementations of Standard Webhooks share.
const (
	exampleSecret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	exampleID        = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	exampleTime      = 1614265330
	exampleBody      = `{"test": 2432232314}`
	exampleSignature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

func key(t testing.TB, secret string) Key {
	t.Helper()
	k, err := ParseKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func secret(fill byte, octets int) string {
	return "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat(string(rune(fill)), octets)))
}

func TestVector(t *testing.T) {
	h := http.Header{}
	Headers(h, []Key{key(t, exampleSecret)}, exampleID, time.Unix(exampleTime, 999), []byte(exampleBody))
	if got := h.Get("webhook-signature"); got != exampleSignature {
		t.Errorf("signature %s, want %s", got, exampleSignature)
	}
	if got := h.Get("webhook-id"); got != exampleID {
		t.Errorf("id %s, want %s", got, exampleID)
	}
	if got := h.Get("webhook-timestamp"); got != "1614265330" {
		t.Errorf("timestamp %s, want %d", got, exampleTime)
	}
}

func TestParseKey(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		ok       bool
	}{
		{"example", exampleSecret, true},
		{"shortest", secret('k', MinKey), true},
		{"longest", secret('k', MaxKey), true},
		{"too short", secret('k', MinKey-1), false},
		{"too long", secret('k', MaxKey+1), false},
		{"empty", "", false},
		{"no key", "whsec_", false},
		{"no prefix", strings.TrimPrefix(exampleSecret, "whsec_"), false},
		{"asymmetric", "whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", false},
		{"not base64", "whsec_$$$$$$$$$$$$$$$$$$$$$$$$$$$$$$$$", false},
		{"no padding", strings.TrimRight(secret('k', 25), "="), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseKey(tt.in)
			if (err == nil) != tt.ok {
				t.Fatalf("error %v, want valid: %v", err, tt.ok)
			}
			if coded := strings.TrimPrefix(tt.in, prefix); err != nil && len(coded) > 10 && strings.Contains(err.Error(), coded) {
				t.Errorf("the error shows the secret: %v", err)
			}
		})
	}
	if _, err := ParseKeys([]string{exampleSecret, "x"}); err == nil || !strings.HasPrefix(err.Error(), "secret 2: ") {
		t.Errorf("error %v, want one about the second", err)
	}
}

func TestKeyHidden(t *testing.T) {
	k := key(t, exampleSecret)
	for _, form := range []string{"%v", "%s", "%+v", "%#v"} {
		if s := fmt.Sprintf(form, k); !strings.Contains(s, "***") || strings.Contains(s, "MfKQ") {
			t.Errorf("%s prints %s", form, s)
		}
	}
}

func TestVerify(t *testing.T) {
	current, former, other := key(t, secret('c', 32)), key(t, secret('f', 32)), key(t, secret('o', 32))
	at := time.Unix(exampleTime, 0)
	for _, tt := range []struct {
		name   string
		by     []Key
		at     time.Time
		change func(http.Header)
		body   string
		want   error
	}{
		{name: "current", by: []Key{current}},
		{name: "both while it changes", by: []Key{current, other}},
		{name: "second of two", by: []Key{other, former}},
		{name: "another's", by: []Key{other}, want: ErrSignature},
		{name: "unsigned", want: ErrSignature},
		{name: "at the edge", by: []Key{current}, at: at.Add(Tolerance)},
		{name: "too old", by: []Key{current}, at: at.Add(Tolerance + time.Second), want: ErrTimestamp},
		{name: "from the future", by: []Key{current}, at: at.Add(-Tolerance - time.Second), want: ErrTimestamp},
		{name: "body", by: []Key{current}, body: "{}", want: ErrSignature},
		{name: "id", by: []Key{current}, change: func(h http.Header) { h.Set(IDHeader, "x") }, want: ErrSignature},
		{name: "time", by: []Key{current}, change: func(h http.Header) { h.Set(TimestampHeader, "1614265331") }, want: ErrSignature},
		{name: "no time", by: []Key{current}, change: func(h http.Header) { h.Del(TimestampHeader) }, want: ErrTimestamp},
		{name: "unknown versions pass", by: []Key{current}, change: func(h http.Header) {
			h.Set(SignatureHeader, "v1a,AAAA v1 v1,!!! "+h.Get(SignatureHeader))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := http.Header{}
			Headers(h, tt.by, exampleID, at, []byte(exampleBody))
			if tt.change != nil {
				tt.change(h)
			}
			now, body := tt.at, tt.body
			if now.IsZero() {
				now = at
			}
			if body == "" {
				body = exampleBody
			}
			if err := Verify(h, []Key{current, former}, now, []byte(body)); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
}

// What is signed verifies, and no changed octet of the body does.
func TestEveryOctet(t *testing.T) {
	k := key(t, exampleSecret)
	at := time.Unix(exampleTime, 0)
	rapid.Check(t, func(t *rapid.T) {
		body := rapid.SliceOfN(rapid.Byte(), 1, 200).Draw(t, "body")
		h := http.Header{}
		Headers(h, []Key{k}, exampleID, at, body)
		if err := Verify(h, []Key{k}, at, body); err != nil {
			t.Fatalf("signed, and refused: %v", err)
		}
		body[rapid.IntRange(0, len(body)-1).Draw(t, "place")] ^= byte(rapid.IntRange(1, 255).Draw(t, "change"))
		if Verify(h, []Key{k}, at, body) == nil {
			t.Fatal("changed, and accepted")
		}
	})
}

func FuzzVerify(f *testing.F) {
	f.Add("1614265330", exampleSignature, exampleID)
	f.Add("", "v1, v1,=", "")
	k := key(f, exampleSecret)
	f.Fuzz(func(t *testing.T, stamp, signature, id string) {
		h := http.Header{TimestampHeader: {stamp}, SignatureHeader: {signature}, IDHeader: {id}}
		// The body is not the example's: nothing may verify.
		if Verify(h, []Key{k}, time.Unix(exampleTime, 0), []byte("x")) == nil {
			t.Errorf("%q %q %q verified", stamp, signature, id)
		}
	})
}
