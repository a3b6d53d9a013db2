package embedded

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// lookEvery is how many chunks of a partition are spent between two looks for
// segments that are full: half of one at least.
const lookEvery = 16

// Spent is bus.Config.Spent: once all of a full segment is, the system needn't
// keep it in memory any more. What is written next takes these pages, which
// costs much less than others, above all in a virtual machine that has to get
// them from its host; and nothing that is still of use has to go for them.
// What waits stays, since reading it from the disk would hold up the broker.
func (b *Broker) Spent(topic string, partition int32, offsets []int64) {
	b.spent.note(partitionDir(dataDir(b.cfg.Dir), topic, partition), offsets)
}

// spent knows what of the content was read, by partition. A start forgets it:
// segments of before stay with the system.
type spent struct {
	release func(file string) error // gives the pages of a file back
	failed  func(error)

	mu    sync.Mutex
	parts map[string]*spentPart // by directory
}

// spentPart is one partition. Its segments are full but for the last.
type spentPart struct {
	read map[int64]bool // offsets of segments that are not given back
	due  int            // chunks until the next look
	// oldest is the first offset there was at the last look.
	oldest int64
}

func newSpent(release func(string) error, failed func(error)) *spent {
	return &spent{release: release, failed: failed, parts: map[string]*spentPart{}}
}

func (s *spent) note(dir string, offsets []int64) {
	s.mu.Lock()
	p := s.parts[dir]
	if p == nil {
		p = &spentPart{read: map[int64]bool{}, due: lookEvery}
		s.parts[dir] = p
	}
	for _, o := range offsets {
		p.read[o] = true
	}
	p.due -= len(offsets)
	var files []string
	var err error
	if p.due <= 0 {
		p.due = lookEvery
		files, err = p.done(dir)
	}
	s.mu.Unlock()
	for _, f := range files {
		// One that was trimmed meanwhile has no pages.
		if e := s.release(f); e != nil && !errors.Is(e, os.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	if err != nil {
		s.failed(err)
	}
}

// done takes out the full segments of which everything was read.
func (p *spentPart) done(dir string) (files []string, err error) {
	bases, err := segments(dir)
	if err != nil || len(bases) == 0 {
		return nil, err
	}
	if bases[0] != p.oldest {
		p.oldest = bases[0]
		maps.DeleteFunc(p.read, func(o int64, _ bool) bool { return o < p.oldest })
	}
	for i := range len(bases) - 1 {
		o, to := bases[i], bases[i+1]
		for o < to && p.read[o] {
			o++
		}
		if o < to {
			continue
		}
		for o = bases[i]; o < to; o++ {
			delete(p.read, o)
		}
		files = append(files, filepath.Join(dir, segmentName(bases[i])))
	}
	return files, nil
}

// partitionDir is where the broker keeps a partition.
func partitionDir(dir, topic string, partition int32) string {
	return filepath.Join(dir, "partitions", fmt.Sprintf("%s-%d", url.PathEscape(topic), partition))
}

// The broker names a segment by its first offset.
const segmentEnding = ".dat"

func segmentName(base int64) string { return strconv.FormatInt(base, 10) + segmentEnding }

// segments are the first offsets of a partition's segments, in order.
func segments(dir string) (bases []int64, err error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("look for segments: %w", err)
	}
	for _, f := range files {
		name, ok := strings.CutSuffix(f.Name(), segmentEnding)
		if base, err := strconv.ParseInt(name, 10, 64); ok && err == nil {
			bases = append(bases, base)
		}
	}
	slices.Sort(bases)
	return bases, nil
}
