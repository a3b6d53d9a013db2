package qmail

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReceivingVariables(t *testing.T) {
	for _, tt := range []struct {
		env  string
		want Variables
	}{
		{"", Variables{}},
		{"HELOCHECK=", Variables{HELO: HELOList}},
		{"HELOCHECK=list", Variables{HELO: HELOList}},
		{"HELOCHECK=!", Variables{HELO: HELORequired}},
		{"HELOCHECK=.", Variables{HELO: HELOBoth}},
		{"HELOCHECK==", Variables{HELO: HELOEqual}},
		{"HELOCHECK=A", Variables{HELO: HELOAddress}},
		{"HELOCHECK=M", Variables{HELO: HELOMail}},
		{"HELOCHECK=-", Variables{HELO: HELOOff}},
		{"MFDNSCHECK=", Variables{SenderDNS: On}},
		{"MFDNSCHECK=-", Variables{SenderDNS: Off}},
		{"LOCALMFCHECK=", Variables{LocalSender: SenderDomainOurs}},
		{"LOCALMFCHECK=!", Variables{LocalSender: SenderByRules}},
		{"LOCALMFCHECK==", Variables{LocalSender: SenderIsUser}},
		{"LOCALMFCHECK=?", Variables{LocalSender: SenderInCert}},
		{"LOCALMFCHECK=-", Variables{LocalSender: SenderAny}},
		{"LOCALMFCHECK=Acme.example", Variables{LocalSender: "acme.example"}},
		{"MAXRECIPIENTS=50,TARPITCOUNT=5,TARPITDELAY=10", Variables{MaxRecipients: 50, TarpitCount: 5, TarpitDelay: 10}},
		{"TARPITDELAY=999", Variables{TarpitDelay: TarpitEnd}},
		{"DATABYTES=1000000,DELIVERTO=x@acme.example", Variables{DataBytes: 1000000, DeliverTo: "x@acme.example"}},
		{"BADMIMETYPE=", Variables{MIMEType: ContentAll}},
		{"BADMIMETYPE=+", Variables{MIMEType: ContentStrangers}},
		{"BADMIMETYPE=!", Variables{MIMEType: ContentBlanks}},
		{"BADMIMETYPE=-", Variables{MIMEType: ContentOff}},
		{"BADLOADERTYPE=M", Variables{LoaderType: ContentAll, Loader: 'M'}},
		{"BADLOADERTYPE=+", Variables{LoaderType: ContentStrangers}},
		{"BADLOADERTYPE=-", Variables{LoaderType: ContentOff}},
		{"RECIPIENTS450=", Variables{Recipients450: On}},
		{"REPLYMAV=mine", Variables{Replies: Replies{SenderInvalid: "mine"}}},
		{"REPLY_HELO=a,REPLY_MAILBOX=b,REPLY_MAXSIZE=c,REPLY_BADMAILFROM=d,REPLY_BADRCPTTO=e,REPLY_SENDEREXIST=f,REPLY_NOGATEWAY=g,REPLY_SENDERINVALID=h,REPLY_CONTENT=i,REPLY_GREYLISTED=j",
			Variables{Replies: Replies{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}}},
		{"RELAYCLIENT=,SPF=3", Variables{}},
	} {
		var got Variables
		if err := got.Set(environment(tt.env)); err != nil {
			t.Errorf("%s: %v", tt.env, err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", tt.env, diff)
		}
	}
}

// What can't be read is told, and leaves what stood there.
func TestVariablesErrors(t *testing.T) {
	for _, env := range []string{"MAXRECIPIENTS=x", "MAXRECIPIENTS=-1", "TARPITCOUNT=", "TARPITDELAY=1000", "DATABYTES=1k", "BADLOADERTYPE=MM", "REPLY_HELO=" + strings.Repeat("x", 301)} {
		v := Variables{MaxRecipients: 7, DataBytes: 8}
		want := v
		if err := v.Set(environment(env)); err == nil {
			t.Errorf("%s is taken", env)
		}
		if v != want {
			t.Errorf("%s changed %+v", env, v)
		}
	}
}

func environment(s string) map[string]string {
	env := map[string]string{}
	for _, pair := range strings.Split(s, ",") {
		if name, value, ok := strings.Cut(pair, "="); ok {
			env[name] = value
		}
	}
	return env
}
