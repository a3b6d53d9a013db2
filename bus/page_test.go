package bus

import (
	"fmt"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// What was stored together and falls due one after the other is read once, not
// again for each record that is released.
func TestHoldReadsNeighboursOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if r.fake == nil {
		t.Skip("counts the requests that the embedded broker gets")
	}
	b := r.bus()
	group := "g." + r.name
	in, out := r.topic(group, "in", 1), r.topic("", "out", 1)
	var fetches, asked atomic.Int64
	r.fake.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		r.fake.KeepControl()
		// By offset: consumers bound the whole request.
		if f := req.(*kmsg.FetchRequest); f.MaxBytes == math.MaxInt32 {
			fetches.Add(1)
			asked.Add(int64(f.Topics[0].Partitions[0].PartitionMaxBytes))
		}
		return nil, nil, false
	})
	const n = 3000
	var rs []*Record
	for i := range n {
		rs = append(rs, held(in, fmt.Sprint(i), time.Now().Add(time.Second+time.Duration(i)*time.Millisecond)))
	}
	r.publish(b, rs...)
	_, run := r.hold(b, holdConfig(group, out, NewTopics(in)))
	r.wantOnce(b, out, n)
	run.stop(t)
	t.Logf("%d fetches for %d bytes at most", fetches.Load(), asked.Load())
	if fetches.Load() > 5 || asked.Load() > 1<<20 {
		t.Errorf("%d fetches of %d bytes for %d neighbours", fetches.Load(), asked.Load(), n)
	}
}

func TestPageCovers(t *testing.T) {
	pg := page{from: 10, next: 20, records: []*kgo.Record{{Offset: 10}, {Offset: 12}, {Offset: 19}}}
	for _, c := range []struct {
		name string
		want []int64
		got  string // r: there, -: gone
	}{
		{"all", []int64{10, 12, 19}, "rrr"},
		{"gone between", []int64{11, 12, 13, 19}, "-r-r"},
		{"before", []int64{9, 10}, ""},
		{"a start", []int64{12, 18, 20, 12}, "r-"},
		{"behind", []int64{20}, ""},
		{"none", nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var ws []*waiting
			for _, o := range c.want {
				ws = append(ws, &waiting{offset: o})
			}
			got := ""
			for i, r := range pg.take(ws) {
				switch {
				case r == nil:
					got += "-"
				case r.Offset == c.want[i]:
					got += "r"
				}
			}
			if got != c.got {
				t.Errorf("%q, want %q", got, c.got)
			}
		})
	}
	for range pageRests {
		pg.rest()
	}
	if pg.records != nil || len(pg.take([]*waiting{{offset: 12}})) > 0 {
		t.Error("a page that nobody needs is kept")
	}
	if got := (&page{}).take([]*waiting{{offset: 0}}); len(got) > 0 {
		t.Error("an empty page covers offset 0")
	}
}

func TestFetchSize(t *testing.T) {
	for _, c := range []struct {
		offsets []int64
		want    int32
	}{
		{[]int64{7}, fetchLeast},
		{[]int64{7, 8, 10}, fetchLeast + 3*fetchRecord},
		{[]int64{7, 8, 1000}, fetchLeast},
		{[]int64{0, 1 << 40}, fetchLeast},
	} {
		var ws []*waiting
		for _, o := range c.offsets {
			ws = append(ws, &waiting{offset: o})
		}
		if got := fetchSize(ws); got != c.want {
			t.Errorf("%v: %d, want %d", c.offsets, got, c.want)
		}
	}
	many := make([]*waiting, releaseBatch)
	for i := range many {
		many[i] = &waiting{offset: int64(7 * i)}
	}
	if got := fetchSize(many); got != fetchMost {
		t.Errorf("many: %d, want %d", got, fetchMost)
	}
}
