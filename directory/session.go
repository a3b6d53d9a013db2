package directory

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"qstream/engine"
	"qstream/qmail"
)

// What follows if a message can't be scanned within its session.
const (
	AtStage = "stage" // it is accepted, and the scanners ask the policy before anything is delivered
	AtDefer = "defer" // 451, the client tries again
)

// SessionScan is how content is scanned within the session that brings it,
// before it is accepted.
type SessionScan struct {
	Policy   string        // that is asked; empty: nothing is scanned within the session
	Deadline time.Duration // from the end of content on; default 30 s
	Busy     string        // if there is no room for the scan in time: AtStage (default) or AtDefer
	Late     string        // if engines give no verdict in time
	Down     string        // if an engine is down or fails
}

// maxSessionScan leaves room below the ten minutes that a client waits for the
// reply (RFC 5321 4.5.3.2.6).
const maxSessionScan = 5 * time.Minute

func newSessionScan() SessionScan {
	return SessionScan{Deadline: 30 * time.Second, Busy: AtStage, Late: AtStage, Down: AtStage}
}

var sessionScanKeys = []key[SessionScan]{
	{"policy", func(s *SessionScan, v *value) { s.Policy = parsed(v, parseName) }},
	{"deadline", func(s *SessionScan, v *value) { s.Deadline = v.duration(time.Second, maxSessionScan) }},
	{"busy", func(s *SessionScan, v *value) { s.Busy = v.oneOf(AtStage, AtDefer) }},
	{"late", func(s *SessionScan, v *value) { s.Late = v.oneOf(AtStage, AtDefer) }},
	{"down", func(s *SessionScan, v *value) { s.Down = v.oneOf(AtStage, AtDefer) }},
}

// Variables of rules that tell what scans within the session.
const (
	varScanPolicy = "SCANPOLICY"   // instead of the document's policy; empty: none
	varQueue      = "QMAILQUEUE"   // a wrapper, relative to qmail's home
	varHome       = "QMAILHOME"    // where the wrapper runs; bin/qmail-queue in it is the drop-in
	varQHPSI      = "QHPSI"        // a scanner program, looked for in PATH
	varArg        = "QHPSIARG"     // with 1, 2 or 3 behind it
	varCode       = "QHPSIRC"      // the exit code that means infected
	varMinSize    = "QHPSIMINSIZE" // bytes; what is smaller isn't scanned
	varMaxSize    = "QHPSIMAXSIZE" // bytes; what is larger isn't scanned
	varBase64     = "BASE64"       // set: without base64 nothing is scanned
)

// qmailHome is where qmail's programs run, by default.
const qmailHome = "/var/qmail"

// checkSessionVariable refuses what scanning would not understand.
func checkSessionVariable(name, value string) error {
	switch name {
	case varScanPolicy:
		if value == "" {
			return nil
		}
		_, err := parseName(value)
		return err
	case varQHPSI:
		if strings.Contains(value, "/") && !path.IsAbs(value) {
			return fmt.Errorf("%s wants an absolute path, or a name that is found in PATH, not %q", name, value)
		}
	case varHome:
		if !path.IsAbs(value) {
			return fmt.Errorf("%s wants an absolute path, not %q", name, value)
		}
	case varCode:
		if n, err := strconv.Atoi(value); err != nil || n < 1 || n > 255 {
			return fmt.Errorf("%s wants an exit code from 1 to 255, not %q", name, value)
		}
	case varMinSize, varMaxSize:
		if n, err := strconv.ParseInt(value, 10, 64); err != nil || n < 0 || n > maxScanned {
			return fmt.Errorf("%s wants a number of bytes, not %q", name, value)
		}
	}
	return nil
}

// touches reports a rule that has a say in what scans its sessions.
func touches(r qmail.Rule) bool {
	of := func(name string) bool {
		return name == varScanPolicy || name == varQueue || name == varHome || name == varBase64 || strings.HasPrefix(name, varQHPSI)
	}
	return slices.ContainsFunc(slices.Collect(maps.Keys(r.Env)), of) || slices.ContainsFunc(r.Unset, of)
}

// everyRule names what holds where no rule says otherwise; an address of a rule
// never reads so.
const everyRule = "env"

// sessionScans makes what scans the sessions of a rules document, each rule's own.
func (c *checker) sessionScans(d *Document, r *Rules) {
	c.sessions[r.Service] = map[string]*SessionScan{everyRule: c.sessionScan(d, r, everyRule, r.Env)}
	for _, rule := range r.Rules.All() {
		if _, twice := c.sessions[r.Service][rule.Pattern]; !rule.Deny && !twice && touches(rule) {
			c.sessions[r.Service][rule.Pattern] = c.sessionScan(d, r, rule.Pattern, rule.Over(r.Env))
		}
	}
}

// sessionScan is what scans the sessions that have these variables: the policy
// they name, or, with programs of their own, one of the rule's.
func (c *checker) sessionScan(d *Document, r *Rules, pattern string, env map[string]string) *SessionScan {
	s := r.Scan
	if name, set := env[varScanPolicy]; set {
		s.Policy = name
	}
	base := c.scans[s.Policy]
	if s.Policy != "" && base == nil {
		c.fail(d, "scan", "there is no scan policy %q", s.Policy)
		return &s
	}
	name := r.Service + ":" + pattern
	if pattern == "" {
		name += "all"
	}
	p := newScanPolicy()
	if base != nil {
		*p = *base
		p.Engines, p.Rules = slices.Clone(base.Engines), slices.Clone(base.Rules)
	}
	own := 0
	for _, e := range programs(name, env) {
		if c.engines[e.Name] = e; e.MaxSize > 0 && e.MinSize > e.MaxSize {
			c.fail(d, "rules", "%s %d of %q is larger than %s %d", varMinSize, e.MinSize, pattern, varMaxSize, e.MaxSize)
		}
		p.Engines = append(p.Engines, e.Name)
		refused := []ScanRule{{On: FindMalware, Engine: e.Name, Action: ActReject}, {On: FindSpam, Engine: e.Name, Action: ActReject}}
		p.Rules = append(refused, p.Rules...)
		own++
	}
	if own > 0 {
		p.Name, s.Policy = name, name
		c.scans[name] = p
	}
	return &s
}

// programs are the engines that the variables of a rule ask for, in the order
// in which s/qmail asks them.
func programs(name string, env map[string]string) []*Engine {
	var all []*Engine
	var given []string
	for _, n := range slices.Sorted(maps.Keys(env)) {
		if n != varQueue && n != "" {
			given = append(given, n+"="+env[n])
		}
	}
	if program := env[varQueue]; program != "" {
		home := cmp.Or(env[varHome], qmailHome)
		if !path.IsAbs(program) {
			program = path.Join(home, program)
		}
		e, queue := newEngine(), path.Join(home, "bin/qmail-queue")
		e.Spec = engine.Spec{Name: name + "/" + varQueue, Type: engine.TypeWrapper, Program: []string{program}, Env: given, Home: home, Queue: queue}
		if path.Clean(program) != queue { // which scans nothing
			all = append(all, e)
		}
	}
	if program := env[varQHPSI]; program != "" {
		e := newEngine()
		e.Spec = engine.Spec{Name: name + "/" + varQHPSI, Type: engine.TypeCommand, Program: []string{program}, Env: given, Outside: "clean"}
		for _, n := range []string{"1", "2", "3"} {
			arg, set := env[varArg+n]
			if !set {
				break // as qmail-queue does: the list of arguments ends there
			}
			e.Program = append(e.Program, arg)
		}
		_, e.Base64 = env[varBase64]
		e.Code, _ = strconv.Atoi(env[varCode]) // they were checked
		e.MinSize, _ = strconv.ParseInt(env[varMinSize], 10, 64)
		e.MaxSize, _ = strconv.ParseInt(env[varMaxSize], 10, 64)
		all = append(all, e)
	}
	return all
}

// SessionScan is how mail of a connection is scanned within its session: by the
// rule that was found for it, as the directory has that now. A rule that is gone
// leaves what holds for all.
func (s *Snapshot) SessionScan(service string, rule qmail.Rule) SessionScan {
	of := s.sessions[service]
	scan := of[everyRule]
	if own := of[rule.Pattern]; own != nil && rule.Line > 0 {
		scan = own
	}
	if scan == nil {
		return SessionScan{}
	}
	return *scan
}

// scansSessions reports whether mail of any queue may be left to the scanners.
func (s *Snapshot) scansSessions() bool {
	for _, of := range s.sessions {
		for _, scan := range of {
			if scan.Policy != "" {
				return true
			}
		}
	}
	return false
}
