package main

import (
	"fmt"
	"strconv"
	"strings"

	"qstream/test/bench/peer"
)

// workload is what peers are measured with.
type workload struct {
	Size          int     // bytes of a mail
	Sessions      int     // at once
	Rate          float64 // mails a second; 0: as fast as they go
	Mails         int     // measured ones of a run
	Recipients    int     // of each mail, in one domain
	PerConnection int     // mails on a connection; negative: no limit
	Pipelining    bool    // of the source
}

// name is what tables and -json call it.
func (w workload) name() string {
	n := fmt.Sprintf("%s, %d sessions", sizeName(w.Size), w.Sessions)
	if w.Sessions == 1 {
		n = sizeName(w.Size) + ", 1 session"
	}
	if w.Rate > 0 {
		n = fmt.Sprintf("idle, %g mails a second", w.Rate)
	}
	if w.Recipients > 1 {
		n += fmt.Sprintf(", %d recipients", w.Recipients)
	}
	if w.PerConnection < 0 {
		n += ", kept open"
	}
	if w.Pipelining {
		n += ", pipelined"
	}
	return n
}

// mails is how many a run of this workload measures unless it is told: some
// seconds of Postfix.
func mails(size, sessions int, rate float64) int {
	switch {
	case rate > 0:
		return int(10 * rate)
	case size >= 1<<19:
		return 300
	case sessions == 1:
		return 1500
	case sessions < 50:
		return 3000
	case sessions < 200:
		return 4000
	}
	return 6000
}

// standard are the workloads of `make bench`.
func standard() []workload {
	var all []workload
	for _, s := range []int{1, 10, 50, 200} {
		all = append(all, workload{Size: 10 << 10, Sessions: s})
	}
	return append(all,
		workload{Size: 1 << 20, Sessions: 10},
		workload{Size: 10 << 10, Sessions: 4, Rate: 20},
	)
}

// filled is w with its defaults.
func (w workload) filled() workload {
	if w.Mails == 0 {
		w.Mails = mails(w.Size, w.Sessions, w.Rate)
	}
	w.Recipients = max(w.Recipients, 1)
	if w.PerConnection == 0 {
		w.PerConnection = 10
	}
	return w
}

// sizeName is 10k or 1m, which parseSize reads.
func sizeName(n int) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return strconv.Itoa(n>>20) + "m"
	case n >= 1<<10 && n%(1<<10) == 0:
		return strconv.Itoa(n>>10) + "k"
	}
	return strconv.Itoa(n)
}

func parseSize(s string) (int, error) {
	digits, unit := strings.TrimRight(s, "km"), 1
	switch strings.TrimPrefix(s, digits) {
	case "":
	case "k":
		unit = 1 << 10
	case "m":
		unit = 1 << 20
	default:
		return 0, fmt.Errorf("size %q: a number, or one with k or m", s)
	}
	n, err := strconv.Atoi(digits)
	if err != nil || n > 100<<20/unit || n*unit < 1000 {
		return 0, fmt.Errorf("size %q: from 1000 octets to 100m", s)
	}
	return n * unit, nil
}

// brokers are the names that -broker takes.
var brokers = []string{peer.Embedded, "kafka1-synced", peer.Kafka1, peer.Kafka3}

// qstream is the peer on a broker of that name.
func qstream(site peer.Site, broker string) (*peer.QStream, error) {
	kind, synced := strings.CutSuffix(broker, "-synced")
	switch kind {
	case peer.Embedded, peer.Kafka1, peer.Kafka3:
		return &peer.QStream{Site: site, Broker: kind, Synced: synced}, nil
	}
	return nil, fmt.Errorf("broker %q: one of %s", broker, strings.Join(brokers, ", "))
}
