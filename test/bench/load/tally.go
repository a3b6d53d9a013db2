package load

import (
	"math"
	"slices"
	"time"
)

// Tally compares what a source sent with what arrived. A delivery is one
// recipient's mail.
type Tally struct {
	Accepted   int // mails that got a 250
	Refused    int // mails that got another reply
	Broken     int // mails whose connection broke: nobody knows
	Delivered  int // deliveries of accepted mails, each counted once
	Lost       int // deliveries of accepted mails that never came
	Duplicates int // arrivals beyond a delivery's first
	Corrupt    int // arrivals with a wrong checksum
	Strange    int // arrivals of mails that the source didn't send, or was refused

	Accepting time.Duration // from the first MAIL FROM to the last 250 at the source
	Relaying  time.Duration // from the first MAIL FROM to the last first arrival
	Ack       Times         // from the write that ends in the final dot to the 250
	EndToEnd  Times         // from MAIL FROM to the sink's 250
	Backlog   time.Duration // the most that a mail began after it was due
}

// Count makes the tally.
func Count(sent Sent, arrivals []Arrival) Tally {
	var t Tally
	rcpts := max(sent.Recipients, 1)
	mails := make(map[uint64]Mail, len(sent.Mails))
	var begun, acked, last int64 = math.MaxInt64, 0, 0
	for _, m := range sent.Mails {
		mails[m.ID] = m
		if m.Begun != 0 {
			begun = min(begun, m.Begun)
		}
		if m.Due != 0 {
			t.Backlog = max(t.Backlog, time.Duration(m.Begun-m.Due))
		}
		switch {
		case m.Accepted():
			t.Accepted++
			acked = max(acked, m.Acked)
			t.Ack = append(t.Ack, time.Duration(m.Acked-m.Dot))
		case m.Code == 0:
			t.Broken++
		default:
			t.Refused++
		}
	}
	type delivery struct {
		id   uint64
		rcpt uint16
	}
	first := make(map[delivery]int64, len(arrivals))
	for _, a := range arrivals {
		m, known := mails[a.ID]
		if a.Corrupt {
			t.Corrupt++
		}
		if !known || !m.Accepted() && m.Code != 0 || int(a.Rcpt) >= rcpts {
			t.Strange++
			continue
		}
		d := delivery{a.ID, a.Rcpt}
		at, again := first[d]
		if again {
			t.Duplicates++
		}
		if !again || a.At < at {
			first[d] = a.At
		}
	}
	for d, at := range first {
		if m := mails[d.id]; m.Accepted() {
			t.Delivered++
			last = max(last, at)
			t.EndToEnd = append(t.EndToEnd, time.Duration(at-m.Begun))
		}
	}
	t.Lost = t.Accepted*rcpts - t.Delivered
	t.Accepting, t.Relaying = span(begun, acked), span(begun, last)
	slices.Sort(t.Ack)
	slices.Sort(t.EndToEnd)
	return t
}

func span(from, to int64) time.Duration { return time.Duration(max(to-from, 0)) }

// AcceptRate is accepted mails a second while they were handed in.
func (t Tally) AcceptRate() float64 { return rate(t.Accepted, t.Accepting) }

// RelayRate is unique deliveries a second from the first MAIL FROM to the last
// delivery.
func (t Tally) RelayRate() float64 { return rate(t.Delivered, t.Relaying) }

func rate(n int, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return float64(n) / d.Seconds()
}

// Times are durations in ascending order.
type Times []time.Duration

// Quantile is the smallest time that a share of q of all don't exceed (nearest
// rank); 0 of none.
func (t Times) Quantile(q float64) time.Duration {
	if len(t) == 0 {
		return 0
	}
	i := int(math.Ceil(q*float64(len(t)))) - 1
	return t[min(max(i, 0), len(t)-1)]
}
