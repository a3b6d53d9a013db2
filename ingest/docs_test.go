package ingest

import (
	"os"
	"strings"
	"testing"
)

// TestQmailIsTold: each control file and each variable by which qmail's
// servers receive mail is named in the pages, with what became of it.
func TestQmailIsTold(t *testing.T) {
	var pages string
	for _, name := range []string{"receiving.md", "configuration.md"} {
		text, err := os.ReadFile("../docs/" + name)
		if err != nil {
			t.Fatal(err)
		}
		pages += string(text)
	}
	for _, name := range strings.Fields(`
		rcpthosts morercpthosts localiphost recipients qmail-smtpam badmailfrom badrcptto badhelo mailfromrules badmimetypes
		badloadertypes databytes timeoutsmtpd smtpgreeting spfexplain spflocalrules me
		RELAYCLIENT QMAILQUEUE DATABYTES QHPSI BADMIMETYPE BADLOADERTYPE HELOCHECK MFDNSCHECK LOCALMFCHECK SPF MAXRECIPIENTS
		TARPITCOUNT TARPITDELAY SMTPAUTH UCSPITLS POSTGREY DELIVERTO RBLSMTPD RECIPIENTS450 GREETDELAY
		REPLY_HELO REPLY_BADRCPTTO REPLY_MAILBOX REPLY_MAXSIZE REPLY_BADMAILFROM REPLY_SENDERINVALID REPLY_NOGATEWAY
		REPLY_SENDEREXIST REPLY_CONTENT REPLY_GREYLISTED REPLYMAV`) {
		if !strings.Contains(pages, "`"+name+"`") {
			t.Errorf("%s is nowhere named", name)
		}
	}
}
