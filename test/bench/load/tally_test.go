package load

import (
	"bytes"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestCount(t *testing.T) {
	ms := int64(time.Millisecond)
	sent := Sent{Recipients: 2, Mails: []Mail{
		{ID: 1, Begun: 10 * ms, Dot: 11 * ms, Acked: 14 * ms, Code: 250},
		{ID: 2, Begun: 12 * ms, Dot: 13 * ms, Acked: 15 * ms, Code: 250},
		{ID: 3, Begun: 13 * ms, Dot: 14 * ms, Acked: 16 * ms, Code: 451},
		{ID: 4, Begun: 14 * ms, Code: 0},
	}}
	got := Count(sent, []Arrival{
		{ID: 1, Rcpt: 0, At: 20 * ms},
		{ID: 1, Rcpt: 1, At: 22 * ms},
		{ID: 1, Rcpt: 1, At: 90 * ms}, // again
		{ID: 2, Rcpt: 0, At: 24 * ms, Corrupt: true},
		{ID: 3, Rcpt: 0, At: 25 * ms}, // refused
		{ID: 4, Rcpt: 0, At: 26 * ms}, // nobody knows: nothing wrong
		{ID: 7, Rcpt: 0, At: 27 * ms}, // never sent
	})
	if got.Accepted != 2 || got.Refused != 1 || got.Broken != 1 || got.Delivered != 3 || got.Lost != 1 ||
		got.Duplicates != 1 || got.Corrupt != 1 || got.Strange != 2 {
		t.Errorf("counts: %+v", got)
	}
	if got.Accepting != 5*time.Millisecond || got.Relaying != 14*time.Millisecond {
		t.Errorf("accepting %v, relaying %v", got.Accepting, got.Relaying)
	}
	if p := got.EndToEnd.Quantile(0.5); p != 12*time.Millisecond {
		t.Errorf("end to end p50 %v", p)
	}
}

func TestQuantile(t *testing.T) {
	hundred := make(Times, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i + 1)
	}
	for _, tc := range []struct {
		times Times
		q     float64
		want  time.Duration
	}{
		{nil, 0.5, 0}, {Times{7}, 0.99, 7}, {Times{1, 2}, 0.5, 1}, {Times{1, 2}, 0.51, 2},
		{hundred, 0, 1}, {hundred, 0.5, 50}, {hundred, 0.99, 99}, {hundred, 1, 100},
	} {
		if got := tc.times.Quantile(tc.q); got != tc.want {
			t.Errorf("quantile %v of %d: %d, want %d", tc.q, len(tc.times), got, tc.want)
		}
	}
}

// TestCheck reads contents back, however they are cut, with what a mail system
// puts before them, and notices a changed byte.
func TestCheck(t *testing.T) {
	mails := NewMails(10 << 10)
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.Uint64().Draw(t, "id")
		header, body := mails.content(nil, id, "a@client.example", "u0@d2.test")
		wire := bytes.Join([][]byte{[]byte("Received: from x\r\n\tby y\r\n"), header, body}, nil)
		damage := rapid.Bool().Draw(t, "damage")
		if damage {
			wire[rapid.IntRange(len(header), len(wire)-10).Draw(t, "at")] ^= 0x80
		}
		var k check
		rest, done := wire, false
		for len(rest) > 0 && !done {
			cut := min(rapid.IntRange(1, 3000).Draw(t, "cut"), len(rest))
			end := bytes.LastIndexByte(rest[:cut], '\n') + 1
			if end == 0 {
				end = bytes.IndexByte(rest, '\n') + 1
			}
			if end == 0 {
				t.Fatal("the content doesn't end with a line")
			}
			var n int
			n, done = k.take(rest[:end])
			rest = rest[n:]
		}
		if !done || len(rest) != 0 {
			t.Fatalf("done %v with %d bytes left", done, len(rest))
		}
		if !k.named || k.id != id || (k.crc != k.want) != damage {
			t.Fatalf("id %x (want %x), sum %x (want %x), damaged %v", k.id, id, k.crc, k.want, damage)
		}
	})
}

func TestSizes(t *testing.T) {
	for _, size := range []int{2 << 10, 10 << 10, 100 << 10, 1 << 20} {
		header, body := NewMails(size).content(nil, 1, "a@client.example", "u0@d2.test")
		if n := len(header) + len(body); n < size*97/100 || n > size*104/100 {
			t.Errorf("%d bytes for %d", n, size)
		}
	}
}

// FuzzCheck takes whatever lines a mail system may send.
func FuzzCheck(f *testing.F) {
	header, body := NewMails(2000).content(nil, 9, "a@client.example", "u0@d2.test")
	f.Add(append(header, body...))
	f.Add([]byte(".\r\n"))
	f.Add([]byte("X-Bench-Id: 1\r\n.\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		text = append(text, '\n')
		var k check
		if n, _ := k.take(text); n > len(text) {
			t.Fatalf("took %d of %d bytes", n, len(text))
		}
	})
}
