package policy

import (
	"net/netip"
	"testing"
	"time"

	"qstream/directory"
	"qstream/qmail"
)

func list(t *testing.T, text string) *qmail.List {
	t.Helper()
	l, err := qmail.ParseList(text)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func checked(onFault string) *directory.Policy {
	return &directory.Policy{Recipients: &directory.RecipientCheck{OnFault: onFault}}
}

// answers are facts found out.
func answers(need Need, a Answer) (all [MailboxHere + 1]Answer) {
	all[need] = a
	return all
}

// Every refusal has its row: code, fitting enhanced code, text.
func TestReplies(t *testing.T) {
	rules, err := qmail.ParseSenderRules("192.0.2.7&joe@acme.example")
	if err != nil {
		t.Fatal(err)
	}
	stranger := Facts{Owned: true, IP: netip.MustParseAddr("192.0.2.7"), Name: "mx.other.example", HELO: "mx.other.example",
		Sender: "x@other.example", Recipient: "bob@acme.example", Offered: 1}
	with := func(change func(*Facts)) Facts {
		f := stranger
		change(&f)
		return f
	}
	relay := with(func(f *Facts) { f.Relay, f.Owned = true, false })
	vars := func(env map[string]string) Settings {
		var s Settings
		if err := s.Set(env); err != nil {
			t.Fatal(err)
		}
		return s
	}
	heloList := vars(map[string]string{"REPLY_HELO": "(see our page)"})
	heloList.BadHELO = list(t, "mx.other.example")
	heloDNS := vars(map[string]string{"HELOCHECK": "A"})
	heloDNS.BadHELO = list(t, "mx.other.example!")
	mav := vars(map[string]string{"REPLYMAV": "here"})
	mav.MailFromRules = rules
	white := vars(map[string]string{"MFDNSCHECK": ""})
	white.BadMailFrom = list(t, "?x@other.example\n*")
	tempMailbox := vars(map[string]string{"RECIPIENTS450": ""})
	tempMailbox.Policy = checked("")
	ruled(t, map[string]row{
		"nothing asked":              {Settings{}, stranger, ""},
		"relay denied":               {vars(map[string]string{"REPLY_NOGATEWAY": "ask us"}), with(func(f *Facts) { f.Owned = false }), "553 5.7.1 relaying denied ask us"},
		"relay allowed":              {Settings{}, relay, ""},
		"file unreadable":            {Settings{Broken: true}, stranger, "451 4.3.0 cannot read policy at the moment, try again later"},
		"badhelo":                    {heloList, stranger, "550 5.7.1 invalid HELO/EHLO greeting (see our page)"},
		"badhelo, relay":             {heloList, relay, ""},
		"helo list off":              {Settings{BadHELO: heloList.BadHELO, Variables: qmail.Variables{HELO: qmail.HELOOff}}, stranger, ""},
		"helo required":              {vars(map[string]string{"HELOCHECK": "!"}), with(func(f *Facts) { f.HELO = "" }), "550 5.7.1 invalid HELO/EHLO greeting"},
		"helo both, none":            {vars(map[string]string{"HELOCHECK": "."}), with(func(f *Facts) { f.HELO = "" }), "550 5.7.1 invalid HELO/EHLO greeting"},
		"helo not the name":          {vars(map[string]string{"HELOCHECK": "="}), with(func(f *Facts) { f.HELO = "a.example" }), "550 5.7.1 invalid HELO/EHLO greeting"},
		"helo the name":              {vars(map[string]string{"HELOCHECK": "="}), with(func(f *Facts) { f.HELO = "MX.other.example" }), ""},
		"helo not in DNS":            {vars(map[string]string{"HELOCHECK": "A"}), with(func(f *Facts) { f.Answers = answers(HELODNS, No) }), "550 5.7.1 invalid HELO/EHLO greeting"},
		"helo not in DNS, MX":        {vars(map[string]string{"HELOCHECK": "M"}), with(func(f *Facts) { f.Answers = answers(HELODNS, No) }), "550 5.7.1 invalid HELO/EHLO greeting"},
		"helo, DNS is dead":          {vars(map[string]string{"HELOCHECK": "A"}), with(func(f *Facts) { f.Answers = answers(HELODNS, Fault) }), "451 4.4.3 DNS temporary failure, try again later"},
		"helo excused from DNS":      {heloDNS, with(func(f *Facts) { f.Answers = answers(HELODNS, No) }), ""},
		"sender not in DNS":          {vars(map[string]string{"MFDNSCHECK": "", "REPLY_SENDEREXIST": "!"}), with(func(f *Facts) { f.Answers = answers(SenderDNS, No) }), "553 5.1.8 your envelope sender must exist !"},
		"sender in DNS":              {vars(map[string]string{"MFDNSCHECK": ""}), with(func(f *Facts) { f.Answers = answers(SenderDNS, Yes) }), ""},
		"sender, DNS is dead":        {vars(map[string]string{"MFDNSCHECK": ""}), with(func(f *Facts) { f.Answers = answers(SenderDNS, Fault) }), "451 4.4.3 DNS temporary failure, try again later"},
		"null sender needs no DNS":   {vars(map[string]string{"MFDNSCHECK": ""}), with(func(f *Facts) { f.Sender = "" }), ""},
		"whitelisted needs no DNS":   {white, stranger, ""},
		"tarpit refuses":             {vars(map[string]string{"TARPITCOUNT": "2"}), with(func(f *Facts) { f.Notfound = 2 }), "452 4.5.3 too many recipients"},
		"tarpit waits":               {vars(map[string]string{"TARPITCOUNT": "2", "TARPITDELAY": "5"}), with(func(f *Facts) { f.Notfound = 2 }), ""},
		"tarpit ends":                {vars(map[string]string{"TARPITCOUNT": "2", "TARPITDELAY": "999"}), with(func(f *Facts) { f.Notfound = 2 }), "452 4.5.3 too many recipients"},
		"no mailbox":                 {Settings{Policy: checked("")}, with(func(f *Facts) { f.Answers = answers(MailboxHere, No) }), "550 5.1.1 no mailbox by that name"},
		"no mailbox, for now":        {tempMailbox, with(func(f *Facts) { f.Answers = answers(MailboxHere, No) }), "450 4.2.1 mailbox currently unavailable"},
		"mailbox":                    {Settings{Policy: checked("")}, with(func(f *Facts) { f.Answers = answers(MailboxHere, Yes) }), ""},
		"mailbox unknown":            {Settings{Policy: checked(directory.FaultDefer)}, with(func(f *Facts) { f.Answers = answers(MailboxHere, Fault) }), "451 4.3.0 unable to check recipients, try again later"},
		"mailbox unknown, close":     {Settings{Policy: checked(directory.FaultClose)}, with(func(f *Facts) { f.Answers = answers(MailboxHere, Fault) }), "421 4.3.0 unable to check recipients"},
		"mailbox unknown, accept":    {Settings{Policy: checked(directory.FaultAccept)}, with(func(f *Facts) { f.Answers = answers(MailboxHere, Fault) }), ""},
		"mailbox, relay":             {Settings{Policy: checked("")}, relay, ""},
		"sender rules":               {mav, relay, "553 5.7.1 invalid sender address specified here"},
		"sender rules, admitted":     {mav, with(func(f *Facts) { f.Relay, f.Sender = true, "Joe@acme.example" }), ""},
		"sender rules, null":         {mav, with(func(f *Facts) { f.Relay, f.Sender = true, "" }), ""},
		"sender rules, stranger":     {mav, stranger, ""},
		"sender rules off":           {Settings{MailFromRules: rules, Variables: qmail.Variables{LocalSender: "-"}}, relay, ""},
		"sender's domain not ours":   {vars(map[string]string{"LOCALMFCHECK": ""}), with(func(f *Facts) { f.Relay, f.Answers = true, answers(OwnDomain, No) }), "553 5.7.1 invalid sender address specified"},
		"sender's domain ours":       {vars(map[string]string{"LOCALMFCHECK": ""}), with(func(f *Facts) { f.Relay, f.Answers = true, answers(OwnDomain, Yes) }), ""},
		"rules that aren't there":    {vars(map[string]string{"LOCALMFCHECK": "!"}), with(func(f *Facts) { f.Relay, f.Answers = true, answers(OwnDomain, No) }), "553 5.7.1 invalid sender address specified"},
		"sender is not the user":     {vars(map[string]string{"LOCALMFCHECK": "="}), with(func(f *Facts) { f.Relay, f.User = true, "ann@acme.example" }), "553 5.7.1 invalid sender address specified"},
		"sender is the user":         {vars(map[string]string{"LOCALMFCHECK": "="}), with(func(f *Facts) { f.Relay, f.User = true, "X@other.example" }), ""},
		"sender not in certificate":  {vars(map[string]string{"LOCALMFCHECK": "?"}), relay, "553 5.7.1 invalid sender address specified"},
		"sender in certificate":      {vars(map[string]string{"LOCALMFCHECK": "?"}), with(func(f *Facts) { f.Relay, f.CertEmail = true, "x@other.example" }), ""},
		"sender of a certain domain": {vars(map[string]string{"LOCALMFCHECK": "other.example"}), relay, ""},
		"sender of another domain":   {vars(map[string]string{"LOCALMFCHECK": "acme.example"}), relay, "553 5.7.1 invalid sender address specified"},
		"badmailfrom":                {Settings{BadMailFrom: list(t, "@other.example")}, stranger, "553 5.7.1 your envelope sender is in my badmailfrom list"},
		"badmailfrom, relay":         {Settings{BadMailFrom: list(t, "@other.example")}, relay, "553 5.7.1 your envelope sender is in my badmailfrom list"},
		"badmailfrom, not for relay": {Settings{BadMailFrom: list(t, "@other.example+")}, relay, ""},
		"badrcptto":                  {Settings{BadRcptTo: list(t, "bob@acme.example")}, stranger, "550 5.7.1 your envelope recipient is in my badrcptto list"},
		"size":                       {vars(map[string]string{"DATABYTES": "100", "REPLY_MAXSIZE": "so small"}), with(func(f *Facts) { f.Size = 101 }), "552 5.3.4 that message size exceeds my databytes limit so small"},
		"recipients":                 {vars(map[string]string{"MAXRECIPIENTS": "3"}), with(func(f *Facts) { f.Accepted = 3 }), "452 4.5.3 too many recipients"},
		"company":                    {vars(map[string]string{"DATABYTES": "100"}), with(func(f *Facts) { f.Companion = &Content{} }), "452 4.5.3 send this recipient's mail by itself: its policy differs from others'"},
		"like company":               {vars(map[string]string{"DATABYTES": "100"}), with(func(f *Facts) { f.Companion = &Content{DataBytes: 100} }), ""},
	})
}

// row is a recipient's fate: want is the reply, "" if it is taken.
type row struct {
	s    Settings
	f    Facts
	want string
}

func ruled(t *testing.T, rows map[string]row) {
	t.Helper()
	for name, tt := range rows {
		v, need := Recipient(&tt.s, &tt.f)
		if need != Nothing {
			t.Errorf("%s: needs %v", name, need)
			continue
		}
		got := ""
		if v.Status.Code != 0 {
			got = v.Status.String()
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
		if (v.Reason == "") != (got == "") {
			t.Errorf("%s: reason %q", name, v.Reason)
		}
	}
}

func TestNeeds(t *testing.T) {
	f := Facts{Owned: true, HELO: "x", Sender: "a@b.example"}
	s := Settings{Policy: checked(""), Variables: qmail.Variables{HELO: qmail.HELOAddress, SenderDNS: qmail.On}}
	for _, want := range []Need{HELODNS, SenderDNS, MailboxHere, Nothing} {
		_, need := Recipient(&s, &f)
		if need != want {
			t.Fatalf("needs %v, want %v", need, want)
		}
		f.Answers[need] = Yes
	}
	s = Settings{Variables: qmail.Variables{LocalSender: qmail.SenderDomainOurs}}
	if _, need := Recipient(&s, &Facts{Relay: true, Sender: "a@b.example"}); need != OwnDomain {
		t.Errorf("needs %v", need)
	}
}

func TestTarpit(t *testing.T) {
	s := Settings{Variables: qmail.Variables{TarpitCount: 3, TarpitDelay: 7}}
	for offered, want := range map[int]time.Duration{1: 0, 2: 0, 3: 7 * time.Second, 9: 7 * time.Second} {
		if v, _ := Recipient(&s, &Facts{Owned: true, Offered: offered}); v.Delay != want {
			t.Errorf("recipient %d waits %s", offered, v.Delay)
		}
	}
	s.TarpitDelay = qmail.TarpitEnd
	if v, _ := Recipient(&s, &Facts{Owned: true, Notfound: 3}); !v.End {
		t.Error("the session goes on")
	}
	if got := Tarpitted().Status.String(); got != "503 5.5.1 DATA command not accepted at this time" {
		t.Error(got)
	}
	s.Policy = checked("")
	if v, _ := Recipient(&s, &Facts{Owned: true, Answers: answers(MailboxHere, No)}); !v.Notfound {
		t.Error("who doesn't exist isn't counted")
	}
}

func TestContent(t *testing.T) {
	mime, err := qmail.ParseMIMETypes("TVqQAAMAA")
	if err != nil {
		t.Fatal(err)
	}
	loaders, err := qmail.ParseLoaderTypes("Mi5kb")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		mime, loader                     qmail.ContentCheck
		relay, ofMIME, ofLoaders, blanks bool
	}{
		{0, 0, false, true, true, false},
		{0, 0, true, true, true, false},
		{'+', '+', false, true, true, false},
		{'+', '+', true, false, false, false},
		{'-', '-', false, false, false, false},
		{'!', 0, false, true, true, true},
	} {
		s := Settings{BadMIMETypes: mime, BadLoaderTypes: loaders, Variables: qmail.Variables{MIMEType: tt.mime, LoaderType: tt.loader, Replies: qmail.Replies{Content: "no"}}}
		c := s.Content(tt.relay)
		if (c.Rules.MIME != nil) != tt.ofMIME || (c.Rules.Loaders != nil) != tt.ofLoaders || c.Rules.Blanks != tt.blanks {
			t.Errorf("%+v: %+v", tt, c)
		}
		if (c.BadReply == "") != c.Rules.Empty() {
			t.Errorf("%+v: reply %q", tt, c.BadReply)
		}
	}
	c := Content{BadReply: "at all"}
	for f, want := range map[qmail.Finding]string{
		qmail.BadMIMEType:   "554 5.3.2 invalid message content at all",
		qmail.BlankInBase64: "554 5.3.2 invalid message content at all",
		qmail.BadLoaderType: "554 5.7.1 invalid message content at all",
	} {
		if got := c.Found(f).Status.String(); got != want {
			t.Errorf("%v: %s", f, got)
		}
	}
	if got := TooBig("").Status.String(); got != "552 5.3.4 that message size exceeds my databytes limit" {
		t.Error(got)
	}
}
