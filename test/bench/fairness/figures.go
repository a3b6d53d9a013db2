package main

import (
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"qstream/test/bench/load"
)

// Figure is what mails of one kind met in one window. Times are milliseconds;
// never stands for mails that did not come while the program waited.
type Figure struct {
	Mails    int // handed in, or due and not taken
	Accepted int
	Arrived  int
	AckP50   float64 // from the final dot to the 250
	AckP99   float64
	P50      float64 // from the time at which the mail was due at the source to the sink's 250
	P99      float64
}

// never is a time that was not reached.
const never = -1

// figureOf counts a mail that was refused, or did not arrive, as one that takes
// for ever.
func figureOf(sent load.Sent, seen map[uint64]int64) Figure {
	f := Figure{Mails: len(sent.Mails)}
	var ack, whole []float64
	for _, m := range sent.Mails {
		a, e := math.Inf(1), math.Inf(1)
		if m.Accepted() {
			f.Accepted++
			a = ms(m.Acked - m.Dot)
			if at := seen[m.ID]; at != 0 {
				f.Arrived++
				e = ms(at - m.Due)
			}
		}
		ack, whole = append(ack, a), append(whole, e)
	}
	f.AckP50, f.AckP99 = quantile(ack, 0.5), quantile(ack, 0.99)
	f.P50, f.P99 = quantile(whole, 0.5), quantile(whole, 0.99)
	return f
}

func ms(ns int64) float64 { return math.Round(float64(ns)/1e4) / 100 }

// quantile is the nearest rank's value.
func quantile(of []float64, q float64) float64 {
	if len(of) == 0 {
		return never
	}
	slices.Sort(of)
	v := of[max(0, int(math.Ceil(q*float64(len(of))))-1)]
	if math.IsInf(v, 1) {
		return never
	}
	return v
}

// allowed is the p99 that isolation permits where the quiet run had one of
// quiet: 20 percent and 10 ms more.
func allowed(quiet float64) float64 { return 1.2*quiet + 10 }

// holds reports whether a p99 keeps the bound.
func holds(quiet, noisy float64) bool {
	return quiet != never && noisy != never && noisy <= allowed(quiet)
}

// machine is the CPU time that all processes have used since the start of the
// machine.
func machine() time.Duration {
	text, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(text), "\n")
	var ticks int64
	for i, f := range strings.Fields(line) {
		n, err := strconv.ParseInt(f, 10, 64)
		if err == nil && (i <= 3 || i == 6 || i == 7) { // user, nice, system, irq, softirq
			ticks += n
		}
	}
	return time.Duration(ticks) * time.Second / 100
}
