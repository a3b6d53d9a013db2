package intake

import (
	"testing"

	"qstream/directory"
)

// TestRuled: SPF and POSTGREY of a connection's rule win over the directory.
func TestRuled(t *testing.T) {
	base := directory.Verification{SPF: directory.SPF{Level: 3, Explain: "x"}, DKIM: true}
	for _, tt := range []struct {
		variables map[string]string
		level     int
		server    string
	}{
		{nil, 3, ""},
		{map[string]string{"SPF": "0"}, 0, ""},
		{map[string]string{"SPF": "6", "POSTGREY": "127.0.0.1;60000"}, 6, "127.0.0.1:60000"},
		{map[string]string{"SPF": "7", "POSTGREY": "nowhere"}, 3, ""},
		{map[string]string{"SPF": "-1", "POSTGREY": ""}, 3, ""},
		{map[string]string{"SPF": "x"}, 3, ""},
	} {
		got := ruled(base, tt.variables)
		server := ""
		if got.Greylist != nil {
			server = got.Greylist.Server
		}
		if got.SPF.Level != tt.level || server != tt.server || !got.DKIM || got.SPF.Explain != "x" {
			t.Errorf("%v: %+v, server %q", tt.variables, got, server)
		}
	}
}
