package main

import (
	"fmt"
	"slices"
	"strings"
)

// mark is a figure that must hold.
type mark struct {
	workload, peer string
	figure         string
	ratio          bool    // to Postfix, within rounds
	bound          float64 // 0: only stated
	most           bool    // an upper bound
}

const (
	embeddedPeer = "qstream embedded"
	syncedPeer   = "qstream kafka1 synced"
	onePeer      = "qstream kafka1"
	threePeer    = "qstream kafka3"
)

// marks are what the project asks of itself.
var marks = []mark{
	{"10k, 10 sessions", embeddedPeer, "relay", true, 4, false},
	{"10k, 10 sessions", embeddedPeer, "cpu", true, 0.25, true},
	{"10k, 50 sessions", embeddedPeer, "relay", true, 5, false},
	{"10k, 50 sessions", embeddedPeer, "cpu", true, 0.25, true},
	{"10k, 1 session", embeddedPeer, "relay", true, 1.5, false},
	{"1m, 10 sessions", embeddedPeer, "relay", true, 2, false},
	{"idle, 20 mails a second", embeddedPeer, "end50", true, 2, true},
	{"10k, 50 sessions", syncedPeer, "relay", true, 1.5, false},
	{"10k, 50 sessions", onePeer, "relay", true, 2, false},
	{"10k, 200 sessions", onePeer, "relay", true, 3, false},
	{"idle, 20 mails a second", syncedPeer, "end50", false, 150, true},
	{"idle, 20 mails a second", onePeer, "end50", false, 150, true},
	{"idle, 20 mails a second", threePeer, "end50", false, 150, true},
	{"10k, 50 sessions", threePeer, "relay", true, 0, false},
	{"10k, 200 sessions", threePeer, "relay", true, 0, false},
}

// measured is the mark's figure; false if it wasn't measured.
func (m mark) measured(gs []group, all []run) (spread, bool) {
	for _, g := range gs {
		if g.workload == m.workload && g.peer == m.peer {
			if m.ratio {
				return g.ratio(m.figure, all)
			}
			return g.figure(m.figure), true
		}
	}
	return spread{}, false
}

// spoilt reports whether a run of the mark's lost or damaged mail: then no
// speed holds.
func (m mark) spoilt(all []run) bool {
	return slices.ContainsFunc(all, func(r run) bool {
		return r.Workload == m.workload && r.Peer == m.peer && r.Lost+r.Corrupt > 0
	})
}

// verdict judges the median.
func (m mark) verdict(s spread, spoilt bool) string {
	switch {
	case spoilt:
		return "**lost mail**"
	case m.bound == 0:
		return "stated"
	case m.most && s.median <= m.bound, !m.most && s.median >= m.bound:
		return "holds"
	}
	return "**falls short**"
}

// what is the figure in words.
func (m mark) what() string {
	names := map[string]string{"relay": "relay", "cpu": "CPU for a mail", "end50": "end to end p50"}
	if m.ratio {
		return names[m.figure] + ", times Postfix"
	}
	return names[m.figure] + ", ms"
}

func (m mark) wanted() string {
	switch {
	case m.bound == 0:
		return "-"
	case m.most:
		return fmt.Sprintf("at most %g", m.bound)
	}
	return fmt.Sprintf("at least %g", m.bound)
}

// marksTable judges what was measured; "" if that is nothing.
func marksTable(gs []group, all []run) string {
	var b strings.Builder
	for _, m := range marks {
		if s, ok := m.measured(gs, all); ok {
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %v | %s |\n", m.workload, m.peer, m.what(), m.wanted(), s, m.verdict(s, m.spoilt(all)))
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return "| workload | peer | figure | wanted | measured | |\n|---|---|---|---|---|---|\n" + b.String()
}
