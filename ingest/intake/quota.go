package intake

import (
	"qstream/directory"
	"qstream/ingest/quota"
	"qstream/mail"
)

// Quotas is what sessions need of a quota.Book.
type Quotas interface {
	Known() bool
	Hour(s quota.Scope, l directory.HourLimits, more quota.Use) quota.Limit
	Wait(tenant, user string, l directory.WaitLimits, size int64) quota.Limit
	Count(s quota.Scope, u quota.Use)
	Met(l quota.Limit, action string)
}

// account is what a transaction has for one tenant or user with a quota.
type account struct {
	scope      quota.Scope
	limits     directory.HourLimits
	action     string
	recipients int64
}

// accounts are those of a transaction: first the submitter's.
type accounts struct {
	all       []account
	submitter int  // how many of them every recipient counts for
	owner     int  // that of the owner of the recipient asked about; -1: it has none
	hold      bool // all recipients wait for a release
}

// severity orders actions: of several limits the hardest action counts.
var severity = map[string]int{"": 0, directory.QuotaHold: 1, directory.QuotaDefer: 2, directory.QuotaReject: 3}

// verdict is the hardest of what limits ask for.
type verdict struct {
	limit  quota.Limit
	action string
	whose  string // the client may hear
	tenant string
	user   string
}

func (v *verdict) harden(w verdict) {
	if w.limit != quota.None && severity[w.action] > severity[v.action] {
		*v = w
	}
}

func (s *Session) quotas() bool { return s.in.deps.Quota != nil && s.tx.snap.Quotas() }

// announced is what is known of the content's size.
func (s *Session) announced() int64 {
	if s.ahead != nil {
		return s.ahead.size
	}
	return s.tx.judgement.size
}

// report reports mail with a null reverse-path: it counts apart, so that
// neither quotas cut reports off nor they use quotas up.
func (s *Session) report() bool { return s.tx.envelope.ReversePath == "" }

// submitting is the tenant that mail from this client is of; mail of clients
// that may relay and belong to nobody is the default tenant's. "": a stranger.
func (s *Session) submitting() string {
	if s.record.Tenant == "" && s.record.Relay {
		return directory.Default
	}
	return s.record.Tenant
}

// quotaMail asks the quotas of who submits, at MAIL.
func (s *Session) quotaMail(user *directory.Credential) error {
	tenant := s.submitting()
	if !s.quotas() || tenant == "" {
		return nil
	}
	a := &s.tx.accounts
	if q := s.tx.snap.Quota(tenant, ""); q != nil {
		if s.report() {
			a.add(quota.Scope{Tenant: tenant, Kind: quota.ReportsOut}, q.Reports, q.Action)
		} else {
			a.add(quota.Scope{Tenant: tenant, Kind: quota.Out}, q.Out, q.Action)
		}
	}
	var found verdict
	if user != nil && user.Quota != nil {
		a.add(quota.Scope{Tenant: tenant, User: user.User, Kind: quota.Out}, user.Quota.Out, user.Quota.Action)
		if !s.report() {
			found.harden(verdict{
				limit:  s.in.deps.Quota.Wait(tenant, user.User, user.Quota.Waiting, s.announced()),
				action: user.Quota.Action, whose: user.User, tenant: tenant, user: user.User,
			})
		}
	}
	a.submitter = len(a.all)
	for i := range a.all {
		found.harden(s.hour(&a.all[i], s.client.User))
	}
	hold, err := s.obeyQuota(found, len(a.all) > 0)
	a.hold = hold
	return err
}

// quotaRcpt asks the quotas that one more recipient counts for, and reports
// whether the recipient is to be held.
func (s *Session) quotaRcpt(address string) (hold bool, err error) {
	if !s.quotas() {
		return false, nil
	}
	a := &s.tx.accounts
	domain := mail.Domain(address)
	owner := s.tx.snap.Owner(domain)
	a.owner = -1
	var found verdict
	for i := range a.all[:a.submitter] {
		found.harden(s.hour(&a.all[i], s.client.User))
	}
	tenant := s.submitting()
	if owner != nil {
		if owner.Quota != nil && owner.Name != tenant {
			a.owner = a.of(owner, s.report())
			found.harden(s.hour(&a.all[a.owner], domain))
		}
		tenant = owner.Name
	}
	q := s.tx.snap.Quota(tenant, "")
	if q != nil && !s.report() {
		found.harden(verdict{
			limit:  s.in.deps.Quota.Wait(tenant, "", q.Waiting, s.announced()),
			action: q.Action, whose: domain, tenant: tenant,
		})
	}
	return s.obeyQuota(found, q != nil || a.submitter > 0)
}

// hour is what an account's limits ask for with one recipient more.
func (s *Session) hour(a *account, whose string) verdict {
	more := quota.Use{Messages: 1, Recipients: a.recipients + 1, Bytes: s.announced()}
	return verdict{
		limit:  s.in.deps.Quota.Hour(a.scope, a.limits, more),
		action: a.action, whose: whose, tenant: a.scope.Tenant, user: a.scope.User,
	}
}

// obeyQuota does what a limit asks for. While what others counted isn't known
// yet, nobody with a quota is let in: an edge that starts must not forget it.
func (s *Session) obeyQuota(v verdict, asked bool) (hold bool, err error) {
	if asked && !s.in.deps.Quota.Known() {
		return false, s.refused("quota", refuse(451, "4.3.0", "quotas are being read, try again later"))
	}
	if v.limit == quota.None {
		return false, nil
	}
	s.in.deps.Quota.Met(v.limit, v.action)
	if v.action == directory.QuotaHold || s.told < mostTold { // a refused client may try for ever
		s.in.deps.Log.Info("quota reached", "stage", "ingest", "tenant", v.tenant, "user", v.user, "host", s.record.ClientIp,
			"limit", string(v.limit), "action", v.action)
	}
	if v.action == directory.QuotaHold {
		return true, nil
	}
	return false, s.refused("quota", reply(v.limit.Status(v.action, v.whose)))
}

func (a *accounts) add(s quota.Scope, l directory.HourLimits, action string) int {
	a.all = append(a.all, account{scope: s, limits: l, action: action})
	return len(a.all) - 1
}

// of is the place of the account of a recipient's owner.
func (a *accounts) of(t *directory.Tenant, report bool) int {
	s, l := quota.Scope{Tenant: t.Name, Kind: quota.In}, t.Quota.In
	if report {
		s.Kind, l = quota.ReportsIn, t.Quota.Reports
	}
	for i := a.submitter; i < len(a.all); i++ {
		if a.all[i].scope == s {
			return i
		}
	}
	return a.add(s, l, t.Quota.Action)
}

// admittedQuota notes that the recipient that quotaRcpt was asked about was
// taken.
func (s *Session) admittedQuota() {
	if !s.quotas() {
		return
	}
	a := &s.tx.accounts
	for i := range a.all[:a.submitter] {
		a.all[i].recipients++
	}
	if a.owner >= 0 {
		a.all[a.owner].recipients++
	}
}

// count counts a message that was taken.
func (s *Session) count(size int64) {
	for _, a := range s.tx.accounts.all {
		if a.recipients > 0 {
			s.in.deps.Quota.Count(a.scope, quota.Use{Messages: 1, Recipients: a.recipients, Bytes: size})
		}
	}
}
