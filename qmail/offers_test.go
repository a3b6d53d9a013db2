package qmail

import "testing"

func TestParseSMTPAuth(t *testing.T) {
	for text, want := range map[string]AuthOffer{
		"": {}, "+cram": {}, "+CRAM-MD5": {}, "-": {Off: true}, "cram": {Challenge: true}, "cram-md5": {Challenge: true},
		"!": {Required: true}, "!+cram": {Required: true}, "!cram": {Required: true, Challenge: true},
	} {
		if got, err := ParseSMTPAuth(text); got != want || err != nil {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"!-", "1", "plain", "+", "!!", " "} {
		if got, err := ParseSMTPAuth(text); err == nil || got != (AuthOffer{}) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

func TestParseUCSPITLS(t *testing.T) {
	for text, want := range map[string]TLSOffer{
		"": {}, "-": {Off: true}, "!": {Required: true}, "?": {Required: true, Relay: true},
		"@": {Required: true, Relay: true, Sender: true},
	} {
		if got, err := ParseUCSPITLS(text); got != want || err != nil {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"1", "!?", "yes", " "} {
		if got, err := ParseUCSPITLS(text); err == nil || got != (TLSOffer{}) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}
