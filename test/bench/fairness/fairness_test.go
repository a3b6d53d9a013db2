package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"qstream/test/bench/load"
	"qstream/test/bench/peer"
)

func TestFigureCountsWhatNeverCame(t *testing.T) {
	const ms = 1_000_000
	var sent load.Sent
	seen := map[uint64]int64{}
	for i := range uint64(100) {
		due := int64(i) * 50 * ms
		sent.Mails = append(sent.Mails, load.Mail{ID: i, Due: due, Begun: due + ms, Dot: due + 2*ms, Acked: due + 4*ms, Code: 250})
		seen[i] = due + 30*ms
	}
	f := figureOf(sent, seen)
	if want := (Figure{Mails: 100, Accepted: 100, Arrived: 100, AckP50: 2, AckP99: 2, P50: 30, P99: 30}); f != want {
		t.Errorf("all arrived: %+v, want %+v", f, want)
	}
	sent.Mails[3].Code = 451
	delete(seen, 7)
	f = figureOf(sent, seen)
	if want := (Figure{Mails: 100, Accepted: 99, Arrived: 98, AckP50: 2, AckP99: 2, P50: 30, P99: never}); f != want {
		t.Errorf("one refused, one late: %+v, want %+v", f, want)
	}
}

func TestHolds(t *testing.T) {
	for _, c := range []struct {
		quiet, noisy float64
		want         bool
	}{
		{50, 70, true}, {50, 70.1, false}, {2, 12.4, true}, {50, never, false}, {never, 20, false},
	} {
		if got := holds(c.quiet, c.noisy); got != c.want {
			t.Errorf("holds(%v, %v) is %v", c.quiet, c.noisy, got)
		}
	}
}

func TestVerdictsAreOfTheMedianTrial(t *testing.T) {
	trial := func(peer string, quiet, noisy float64) Trial {
		return Trial{Case: "hang-1", Peer: peer, Waiting: 9, Before: [2]Figure{{P99: quiet}, {P99: quiet}}, Noisy: [2]Figure{{P99: noisy}, {P99: noisy}}}
	}
	good := []Trial{trial("qstream embedded", 50, 60), trial("qstream embedded", 50, never), trial("qstream embedded", 50, 65), trial("postfix", 3, never)}
	if errs := verdicts(good); len(errs) != 0 {
		t.Errorf("one outlier of three: %v", errs)
	}
	bad := append(good, trial("qstream embedded", 50, 90), trial("qstream embedded", 50, 95))
	if errs := verdicts(bad); len(errs) != 2 {
		t.Errorf("three outliers of five, of both kinds: %v", errs)
	}
	over := trial("qstream embedded", 50, 60)
	over.Waiting = 0
	if errs := verdicts([]Trial{over}); len(errs) != 2 || !strings.Contains(errs[0].Error(), "the noise was over") {
		t.Errorf("a noisy run without noise: %v", errs)
	}
}

func TestPageKeepsWhatStandsAround(t *testing.T) {
	page := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(page, []byte("above\n"+begin+"\nformer\n"+end+"\nbelow\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	fresh := []Trial{{Case: "hang-1", Peer: "postfix", Accepted: 2}}
	all := append(without([]Trial{{Case: "hang-1", Peer: "postfix", Accepted: 1}}, fresh), fresh...)
	for range 2 {
		if err := writePage(page, all); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	s := string(text)
	if !strings.HasPrefix(s, "above\n"+begin) || !strings.HasSuffix(s, end+"\nbelow\n") || strings.Contains(s, "former") || strings.Count(s, "| hang-1 | postfix | 1 | 2 in 0 |") != 2 {
		t.Errorf("page is\n%s", s)
	}
}

func TestCounts(t *testing.T) {
	large, flood := scenes[7], scenes[5]
	for _, c := range []struct {
		s    scene
		p    peer.Peer
		want int
	}{
		{large, &peer.QStream{}, 20}, {large, &peer.QStream{Broker: peer.Kafka1}, 200}, {large, &peer.Postfix{}, 20},
		{flood, &peer.QStream{}, 200_000}, {flood, &peer.Postfix{}, 25_000},
	} {
		if got := c.s.count(c.p, 25_000); got != c.want {
			t.Errorf("%s on %s: %d mails, want %d", c.s.Name, c.p.Name(), got, c.want)
		}
	}
}

func TestReplayTakesTheHighest(t *testing.T) {
	verb := func(seconds, megabytes int) peer.Verb {
		return peer.Verb{Took: time.Duration(seconds) * time.Second, CPU: time.Duration(seconds) * time.Millisecond, Memory: int64(megabytes) * 1_000_000}
	}
	r := reading{scene: scene{Replay: 1000}, of: 100_000, list: []peer.Verb{verb(9, 50), verb(2, 80), verb(4, 60)}, again: []peer.Verb{verb(5, 90)}}
	got := r.figures()
	want := Replay{Verbs: 4, Messages: 100_000, Matched: 100, List: 4, Again: 5, CPU: 0.009, Memory: 90}
	if *got != want {
		t.Errorf("%+v, want %+v", *got, want)
	}
	if page := replays([]Trial{{Peer: "qstream embedded", Replay: got}, {}}); !strings.Contains(page, "| qstream embedded | 100000 | 100 | 4 | 4.0 | 25000 | 5.0 | 0.0 | 90 |") {
		t.Errorf("%s", page)
	}
	if replays([]Trial{{}}) != "" {
		t.Error("a table of nothing")
	}
}
