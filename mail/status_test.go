package mail

import "testing"

func TestStatus(t *testing.T) {
	for _, tt := range []struct {
		in                       Status
		ok, temporary, permanent bool
		text                     string
	}{
		{Status{250, "2.0.0", "ok"}, true, false, false, "250 2.0.0 ok"},
		{Status{451, "4.3.0", "later\nplease"}, false, true, false, "451 4.3.0 later please"},
		{Status{550, "", "no\x1b[2J"}, false, false, true, "550 no [2J"},
		{Status{354, "", ""}, false, true, false, "354"},
		{Status{999, "", "\u0085x\xff"}, false, true, false, "999  x "},
		{Status{}, false, true, false, "000"},
	} {
		if tt.in.OK() != tt.ok || tt.in.Temporary() != tt.temporary || tt.in.Permanent() != tt.permanent || tt.in.Error() != tt.text {
			t.Errorf("%+v: %v %v %v %q", tt.in, tt.in.OK(), tt.in.Temporary(), tt.in.Permanent(), tt.in.Error())
		}
	}
}
