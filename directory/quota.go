package directory

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Quota bounds the mail of a tenant or a user. What has no limit is counted
// all the same.
type Quota struct {
	// In are limits of an hour for mail that comes for a tenant's domains from
	// others, Out for mail that its clients, or the user, hand in. Mail with
	// a null reverse-path counts apart, in each direction, and has the limits
	// of Reports. A user has Out only, which all its mail counts for.
	In, Out, Reports HourLimits
	Waiting          WaitLimits
	Action           string // QuotaDefer, QuotaReject or QuotaHold
}

// HourLimits are the most that an hour may bring. 0: no limit.
type HourLimits struct {
	Messages   int64
	Recipients int64
	Bytes      int64 // of content, once for each message
}

// WaitLimits are the most that may wait before more is taken. 0: no limit.
// Mail with a null reverse-path neither counts nor is asked.
type WaitLimits struct {
	Messages int64 // once for each destination that one waits for
	Bytes    int64
	Oldest   time.Duration // age of the oldest mail that still waits for its first attempt
}

// What is done with mail above a limit.
const (
	QuotaDefer  = "defer"  // 4yz before DATA
	QuotaReject = "reject" // 5yz before DATA
	QuotaHold   = "hold"   // taken, and kept until somebody releases it
)

// DefaultReports is how many messages with a null reverse-path an hour may
// bring in each direction to a tenant that has a quota.
const DefaultReports = 1000

// maxQuota bounds limits, so that sums can't overflow.
const maxQuota = 1 << 50

func newTenantQuota() *Quota {
	return &Quota{Action: QuotaDefer, Reports: HourLimits{Messages: DefaultReports}}
}

var tenantQuotaKeys = []key[Quota]{
	{"in", func(q *Quota, v *value) { nested(v, &q.In, hourKeys) }},
	{"out", func(q *Quota, v *value) { nested(v, &q.Out, hourKeys) }},
	{"reports", func(q *Quota, v *value) { nested(v, &q.Reports, hourKeys) }},
	{"waiting", func(q *Quota, v *value) { nested(v, &q.Waiting, waitKeys) }},
	{"action", func(q *Quota, v *value) { q.Action = v.oneOf(QuotaDefer, QuotaReject, QuotaHold) }},
}

// userQuotaKeys are those of a tenant that a user has.
var userQuotaKeys = []key[Quota]{tenantQuotaKeys[1], tenantQuotaKeys[3], tenantQuotaKeys[4]}

var hourKeys = []key[HourLimits]{
	{"messages", func(l *HourLimits, v *value) { l.Messages = parsed(v, parseHourly(parseCount)) }},
	{"recipients", func(l *HourLimits, v *value) { l.Recipients = parsed(v, parseHourly(parseCount)) }},
	{"bytes", func(l *HourLimits, v *value) { l.Bytes = parsed(v, parseHourly(parseBytes)) }},
}

var waitKeys = []key[WaitLimits]{
	{"messages", func(l *WaitLimits, v *value) { l.Messages = v.integer(1, maxQuota) }},
	{"bytes", func(l *WaitLimits, v *value) { l.Bytes = parsed(v, parseBytes) }},
	{"oldest", func(l *WaitLimits, v *value) { l.Oldest = v.duration(time.Second, 30*24*time.Hour) }},
}

// parseHourly reads "10000/1h": an hour is what quotas count by.
func parseHourly(parse func(string) (int64, error)) func(string) (int64, error) {
	return func(s string) (int64, error) {
		count, per, ok := strings.Cut(s, "/")
		if !ok || per != "1h" {
			return 0, fmt.Errorf("%q is no quota: it counts by the hour, write 10000/1h", s)
		}
		return parse(count)
	}
}

func parseCount(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 1 || n > maxQuota {
		return 0, fmt.Errorf("%q is no whole number from 1 to %d", s, int64(maxQuota))
	}
	return n, nil
}

var byteUnits = []struct {
	name string
	size int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}}

// parseBytes reads octets: "500000", "20GiB".
func parseBytes(s string) (int64, error) {
	count, unit := s, int64(1)
	for _, u := range byteUnits {
		if before, ok := strings.CutSuffix(s, u.name); ok {
			count, unit = before, u.size
		}
	}
	n, err := strconv.ParseInt(count, 10, 64)
	if err != nil || n < 1 || n > maxQuota/unit {
		return 0, fmt.Errorf("%q is no number of octets: write 500000, 20MiB or 5GiB", s)
	}
	return n * unit, nil
}

// Quotas reports whether anybody has a quota.
func (s *Snapshot) Quotas() bool { return s.quotas }

// Quota is that of a tenant, or, with a user, of the user; nil: none.
func (s *Snapshot) Quota(tenant, user string) *Quota {
	if user != "" {
		if u := s.credentials[user]; u != nil && u.Tenant == tenant {
			return u.Quota
		}
		return nil
	}
	if t := s.tenants[tenant]; t != nil {
		return t.Quota
	}
	return nil
}
