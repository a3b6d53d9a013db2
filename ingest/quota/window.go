package quota

import (
	"cmp"
	"slices"

	pb "qstream/schemas/qstream/v1"
)

// span is how many whole minutes count: the current one and those before it.
const span = 60

// Use is an amount of mail.
type Use struct {
	Messages   int64 `json:"messages"`
	Recipients int64 `json:"recipients"`
	Bytes      int64 `json:"bytes"`
}

func (u Use) plus(v Use) Use {
	return Use{u.Messages + v.Messages, u.Recipients + v.Recipients, u.Bytes + v.Bytes}
}

func (u Use) minus(v Use) Use {
	return Use{u.Messages - v.Messages, u.Recipients - v.Recipients, u.Bytes - v.Bytes}
}

// since is how much of u is beyond what was known before.
func (u Use) since(before Use) Use {
	d := u.minus(before)
	return Use{max(d.Messages, 0), max(d.Recipients, 0), max(d.Bytes, 0)}
}

// maxUse bounds what is believed of one minute: sums can't overflow.
const maxUse = 1 << 50

func useOf(u *pb.Usage) Use {
	bounded := func(n int64) int64 { return min(max(n, 0), maxUse) }
	return Use{bounded(u.Messages), bounded(u.Recipients), bounded(u.Bytes)}
}

// minute is what was counted in one minute since 1970.
type minute struct {
	at  int64
	use Use
}

// window is a sliding hour, in whole minutes. It takes room only for minutes
// in which something was counted. The zero window is empty.
type window struct {
	minutes []minute // ascending
	sum     Use
}

// add counts in a minute.
func (w *window) add(at int64, u Use) {
	w.sum = w.sum.plus(u)
	if n := len(w.minutes); n > 0 && w.minutes[n-1].at == at {
		w.minutes[n-1].use = w.minutes[n-1].use.plus(u)
		return
	}
	i, found := slices.BinarySearchFunc(w.minutes, at, func(m minute, at int64) int { return cmp.Compare(m.at, at) })
	if !found {
		w.minutes = slices.Insert(w.minutes, i, minute{at: at})
	}
	w.minutes[i].use = w.minutes[i].use.plus(u)
}

// advance forgets what no longer counts in the minute now.
func (w *window) advance(now int64) {
	gone := 0
	for gone < len(w.minutes) && w.minutes[gone].at <= now-span {
		w.sum = w.sum.minus(w.minutes[gone].use)
		gone++
	}
	if gone > 0 {
		w.minutes = slices.Delete(w.minutes, 0, gone)
	}
}

func (w *window) empty() bool { return len(w.minutes) == 0 }
