package directory

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestQuota(t *testing.T) {
	s := snapshotOf(t, `
kind: tenant
name: acme
quota:
  in: {messages: 10000/1h, recipients: 50000/1h, bytes: 5GiB/1h}
  out: {messages: 20/1h, bytes: 500000/1h}
  waiting: {messages: 7, bytes: 20MiB, oldest: 4h}
  action: hold
---
kind: tenant
name: counted
quota: {}
---
kind: tenant
name: free
---
kind: credential
name: ann@acme.example
tenant: acme
quota: {out: {recipients: 5/1h}, action: reject}
`)
	for _, tt := range []struct {
		tenant, user string
		want         *Quota
	}{
		{"acme", "", &Quota{
			In:      HourLimits{Messages: 10000, Recipients: 50000, Bytes: 5 << 30},
			Out:     HourLimits{Messages: 20, Bytes: 500_000},
			Reports: HourLimits{Messages: DefaultReports},
			Waiting: WaitLimits{Messages: 7, Bytes: 20 << 20, Oldest: 4 * time.Hour},
			Action:  QuotaHold,
		}},
		{"counted", "", &Quota{Reports: HourLimits{Messages: DefaultReports}, Action: QuotaDefer}},
		{"free", "", nil},
		{"nobody", "", nil},
		{"acme", "ann@acme.example", &Quota{Out: HourLimits{Recipients: 5}, Action: QuotaReject}},
		{"counted", "ann@acme.example", nil}, // not its user
		{"acme", "bob@acme.example", nil},
	} {
		if d := cmp.Diff(tt.want, s.Quota(tt.tenant, tt.user)); d != "" {
			t.Errorf("%s %s: %s", tt.tenant, tt.user, d)
		}
	}
	if !s.Quotas() || snapshotOf(t, "kind: tenant\nname: free\n").Quotas() {
		t.Error("who has quotas isn't known")
	}
}

func TestQuotaFaults(t *testing.T) {
	for quota, want := range map[string]string{
		"{in: {messages: 10}}":                   "counts by the hour",
		"{in: {messages: 10/1m}}":                "counts by the hour",
		"{in: {messages: 0/1h}}":                 "no whole number",
		"{in: {messages: 5GiB/1h}}":              "no whole number",
		"{in: {bytes: 5GB/1h}}":                  "no number of octets",
		"{in: {bytes: 2000000TiB/1h}}":           "no number of octets",
		"{waiting: {bytes: -1}}":                 "no number of octets",
		"{waiting: {messages: 0}}":               "no whole number",
		"{waiting: {oldest: 4}}":                 "no unit",
		"{action: drop}":                         "none of",
		"{messages: 10/1h}":                      "unknown key",
		"{in: {messages: 9999999999999999/1h}}":  "no whole number",
		"{in: {messages: 99999999999999999/1h}}": "no whole number",
	} {
		_, err := Parse(File{Name: "t.yaml", Data: []byte("kind: tenant\nname: acme\nquota: " + quota + "\n")})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", quota, err, want)
		}
	}
	_, err := Parse(File{Name: "t.yaml", Data: []byte("kind: credential\nname: ann\ntenant: acme\nquota: {in: {messages: 1/1h}}\n")})
	if err == nil || !strings.Contains(err.Error(), "unknown key") {
		t.Errorf("a user's quota of incoming mail: %v", err)
	}
}
