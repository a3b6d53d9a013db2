package bus

import (
	"context"
	"errors"
	"fmt"
	"sort"

	"github.com/twmb/franz-go/pkg/kgo"
)

// How much of a partition is read at once to release records of it.
const (
	fetchLeast  = 16 << 10 // a whole batch at least
	fetchMost   = 1 << 20
	fetchRecord = 512 // a waiting record, about, where many neighbours are wanted
)

const (
	pageMost  = 1 << 20 // bytes of values in a page that is kept
	pageRests = 40      // looks that need nothing of a page before it is dropped
)

// errGone is a waiting record that its topic no longer holds.
var errGone = errors.New("the waiting record is no longer in its topic")

// page is what a partition's last fetch brought. What waits together was
// mostly planned together and ends its wait one after the other, and a fetch
// brings whole batches: the next to be released are mostly there.
type page struct {
	from, next int64         // what was read
	records    []*kgo.Record // of it, those that are there, by offset
	rests      int
}

// take is the records of a start of ws that the page covers; a nil one is
// gone.
func (pg *page) take(ws []*waiting) (got []*Record) {
	pg.rests = 0
	for _, w := range ws {
		if w.offset < pg.from || w.offset >= pg.next {
			break
		}
		i := sort.Search(len(pg.records), func(i int) bool { return pg.records[i].Offset >= w.offset })
		if i == len(pg.records) || pg.records[i].Offset != w.offset {
			got = append(got, nil)
			continue
		}
		r := fromClient(pg.records[i])
		got = append(got, &r)
	}
	return got
}

// rest is called when a look has passed without a release.
func (pg *page) rest() {
	if pg.rests++; pg.rests >= pageRests {
		*pg = page{}
	}
}

// fetch reads the records of a start of ws, at least one; a nil record is
// gone.
func (h *Holder) fetch(ctx context.Context, p *part, pg *page, ws []*waiting) ([]*Record, error) {
	if got := pg.take(ws); len(got) > 0 {
		return got, nil
	}
	f, err := h.engine.bus.fetch(ctx, p.topic, p.partition, ws[0].offset, fetchSize(ws))
	if errors.Is(err, errOutOfRange) {
		return []*Record{nil}, nil
	}
	if err != nil {
		return nil, err
	}
	fresh := page{from: ws[0].offset, next: f.next, records: f.records}
	got := fresh.take(ws)
	if len(got) == 0 {
		return nil, fmt.Errorf("fetch at %d: nothing came", ws[0].offset)
	}
	if *pg = (page{}); fresh.size() <= pageMost {
		*pg = fresh
	}
	return got, nil
}

func (pg *page) size() (n int) {
	for _, r := range pg.records {
		n += len(r.Value)
	}
	return n
}

// fetchSize is what to ask for: neighbours are fetched together, but a record
// far from the others brings no more than its batch.
func fetchSize(ws []*waiting) int32 {
	span := ws[len(ws)-1].offset - ws[0].offset
	if span >= int64(8*len(ws)) {
		return fetchLeast
	}
	return int32(min(fetchLeast+fetchRecord*span, fetchMost))
}
