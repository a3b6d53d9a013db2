package load

import (
	"context"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	Main()
	os.Exit(m.Run())
}

// TestSourceToSink sends straight from one end to the other.
func TestSourceToSink(t *testing.T) {
	defer goleak.VerifyNone(t)
	for _, tc := range []struct {
		name   string
		source *Source
		mails  int
		size   int
	}{
		{"one session", &Source{}, 200, 10 << 10},
		{"many", &Source{Sessions: 50, Recipients: 3}, 1000, 10 << 10},
		{"kept open", &Source{Sessions: 10, PerConnection: -1}, 1000, 2 << 10},
		{"pipelined", &Source{Sessions: 10, Pipelining: true, Recipients: 2}, 500, 10 << 10},
		{"large", &Source{Sessions: 4}, 20, 1 << 20},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sink, err := StartSink([]Host{{IP: "127.0.0.1"}})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := sink.Close(); err != nil {
					t.Error(err)
				}
			}()
			s := tc.source
			s.Addr, s.Mails, s.Domains, s.First = sink.Addr(0), NewMails(tc.size), []string{"d2.test", "d3.test"}, 1<<40
			tally := run(t, s, sink, tc.mails)
			want := tc.mails * s.Recipients
			if tally.Accepted != tc.mails || tally.Delivered != want || tally.Lost+tally.Duplicates+tally.Corrupt+tally.Strange != 0 {
				t.Fatalf("of %d mails: %+v", tc.mails, counts(tally))
			}
			t.Logf("%.0f/s, ack %v, end to end %v", tally.RelayRate(), tally.Ack.Quantile(0.5), tally.EndToEnd.Quantile(0.5))
		})
	}
}

// run sends and counts.
func run(t *testing.T, s *Source, sink *Sink, n int) Tally {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	sent, err := s.Run(ctx, n)
	if err != nil {
		t.Fatal(err)
	}
	if sent.Err != nil {
		t.Logf("connections: %v", sent.Err)
	}
	took, err := sink.Take()
	if err != nil {
		t.Fatal(err)
	}
	return Count(sent, took.Arrivals)
}

// counts is a tally without its times.
func counts(t Tally) Tally {
	t.Ack, t.EndToEnd = nil, nil
	return t
}

// TestProfiles meets hosts that don't take mail, beside one that does.
func TestProfiles(t *testing.T) {
	sink, err := StartSink([]Host{
		{IP: "127.0.0.1", Profile: Profile{Reply: "451 4.3.0 later"}},
		{IP: "127.0.0.2", Profile: Profile{Rcpt: "550 5.1.1 nobody"}},
		{IP: "127.0.0.3", Profile: Profile{Hang: true}},
		{IP: "127.0.0.4", Profile: Profile{Data: 30 * time.Millisecond}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	mails := NewMails(2000)
	for i, want := range []Tally{{Refused: 3}, {Refused: 3}, {}, {Accepted: 3, Delivered: 3}} {
		s := Source{Addr: sink.Addr(i), Mails: mails, Domains: []string{"d.test"}, Timeout: 100 * time.Millisecond}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		if sink.hosts[i].Profile.Hang {
			ctx, cancel = context.WithTimeout(context.Background(), 150*time.Millisecond)
		}
		sent, err := s.Run(ctx, 3)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		took, err := sink.Take()
		if err != nil {
			t.Fatal(err)
		}
		got := Count(sent, took.Arrivals)
		if got.Accepted != want.Accepted || got.Refused != want.Refused || got.Delivered != want.Delivered {
			t.Errorf("host %d: %+v, want %+v", i, counts(got), want)
		}
		if want.Accepted > 0 && got.Ack.Quantile(0.5) < 30*time.Millisecond {
			t.Errorf("host %d acknowledged after %v", i, got.Ack.Quantile(0.5))
		}
	}
}

// TestRate keeps a pace.
func TestRate(t *testing.T) {
	sink, err := StartSink([]Host{{IP: "127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	s := &Source{Addr: sink.Addr(0), Mails: NewMails(2000), Domains: []string{"d.test"}, Sessions: 4, Rate: 100}
	began := time.Now() // not the first acceptance, which may be late
	tally := run(t, s, sink, 30)
	if took := time.Since(began); tally.Delivered != 30 || took < 290*time.Millisecond {
		t.Errorf("%d in %v, want 30 in 290 ms", tally.Delivered, took)
	}
}
