package scanner

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"qstream/engine"
	pb "qstream/schemas/qstream/v1"
)

// stageName is this stage's name in events, logs and deadletter records.
const stageName = "scanner"

// maxSymbols is how many of an engine's symbols an event tells.
const maxSymbols = 50

// event tells of a leg after its step was counted.
func event(kind pb.EventType, l *pb.Leg, a answer, sc scene) *pb.Event {
	e := plain(kind, l, sc.snap.Number, sc.now)
	if l.Scan != nil {
		e.Scan = &pb.Scan{
			State: l.Scan.State, Policy: sc.policy.Name, Directory: sc.snap.Number, Verdicts: recorded(a.verdicts, maxSymbols),
			Action: l.Scan.Action, Finding: l.Scan.Finding, Queue: l.Scan.Queue, Tries: l.Scan.Tries,
		}
	}
	e.TookMs = sc.now.Sub(sc.began).Milliseconds()
	return e
}

// plain is an event about a leg where it stands.
func plain(kind pb.EventType, l *pb.Leg, number uint64, now time.Time) *pb.Event {
	e := &pb.Event{
		Type: kind, AtMs: now.UnixMilli(), MessageId: l.MessageId, Leg: l.Number, Step: l.Step, Attempt: l.Attempt,
		Tenant: l.Tenant, Queue: l.Queue, Destination: l.Destination, Route: l.Route, Directory: number,
		ReversePath: l.ReversePath, HeaderMessageId: l.HeaderMessageId, Size: l.GetContent().GetSize(),
		Origin: l.Origin, ParentId: l.ParentId, Stage: stageName,
	}
	for _, r := range l.Recipients {
		e.Outcomes = append(e.Outcomes, &pb.Outcome{Number: r.Number, Address: r.Address})
	}
	return e
}

// recorded are verdicts as legs and events carry them, with the heaviest of
// their symbols.
func recorded(verdicts []said, symbols int) []*pb.Verdict {
	out := make([]*pb.Verdict, len(verdicts))
	for i, v := range verdicts {
		out[i] = &pb.Verdict{
			Engine: v.Engine, Outcome: v.Outcome.String(), Reason: v.Reason.String(), Name: valid(v.Name), Detail: valid(v.Detail),
			Signatures: valid(v.Signatures), Score: finite(v.Score), Threshold: finite(v.Threshold), TookMs: v.took.Milliseconds(), Kept: v.kept,
		}
		if v.Advice != engine.NoAdvice {
			out[i].Advice = v.Advice.String()
		}
		if symbols == 0 {
			continue
		}
		heavy := slices.SortedStableFunc(slices.Values(v.Symbols), func(a, b engine.Symbol) int {
			return cmp.Compare(math.Abs(b.Score), math.Abs(a.Score))
		})
		for _, s := range heavy[:min(len(heavy), symbols)] {
			out[i].Symbols = append(out[i].Symbols, &pb.Symbol{Name: valid(s.Name), Score: finite(s.Score)})
		}
	}
	return out
}

// valid makes text of an engine fit for a record.
func valid(s string) string { return strings.ToValidUTF8(s, "?") }

func finite(f float64) float64 {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return 0
	}
	return f
}

// tells is the value of the field that tells what was found: "malware by
// clamav (Eicar)".
func (r ruling) tells(verdicts []said) string {
	if r.by < 0 {
		return r.finding
	}
	v := verdicts[r.by]
	text := r.finding + " by " + v.Engine
	switch more := strings.TrimSpace(v.Name + " " + v.Reason.String()); {
	case v.Score != 0 || v.Threshold != 0:
		text += fmt.Sprintf(" (%.4g of %.4g)", v.Score, v.Threshold)
	case more != "":
		text += " (" + more + ")"
	}
	return text
}

func cutField(f string) (name, value string) {
	name, value, _ = strings.Cut(f, ": ")
	return name, value
}
