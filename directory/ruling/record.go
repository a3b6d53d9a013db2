package ruling

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"qstream/directory"
	"qstream/engine"
	pb "qstream/schemas/qstream/v1"
)

// Recorded are verdicts as legs and events carry them, with the heaviest of
// their symbols.
func Recorded(verdicts []Said, symbols int) []*pb.Verdict {
	out := make([]*pb.Verdict, len(verdicts))
	for i, v := range verdicts {
		out[i] = &pb.Verdict{
			Engine: v.Engine, Outcome: v.Outcome.String(), Reason: v.Reason.String(), Name: valid(v.Name), Detail: valid(v.Detail),
			Signatures: valid(v.Signatures), Score: finite(v.Score), Threshold: finite(v.Threshold), TookMs: v.Took.Milliseconds(), Kept: v.Kept,
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

// Tells is the value of the field that tells what was found: "malware by
// clamav (Eicar)".
func (r Ruling) Tells(verdicts []Said) string {
	if r.By < 0 {
		return r.Finding
	}
	v := verdicts[r.By]
	text := r.Finding + " by " + v.Engine
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

// scanField tells in the header what was found.
const scanField = "X-Qstream-Scan"

// Changes are those that engines asked for and those of the rules that fit.
func Changes(r Ruling, verdicts []Said, p *directory.ScanPolicy) []*pb.HeaderChange {
	var cs []*pb.HeaderChange
	for _, v := range verdicts {
		for _, c := range v.Changes {
			cs = append(cs, &pb.HeaderChange{Kind: kinds[c.Kind], Index: uint32(c.Index), Name: c.Name, Value: []byte(c.Value)})
		}
	}
	if gravity(r.Action) < gravity(directory.ActTag) || r.Finding == "" {
		return cs
	}
	cs = append(cs, &pb.HeaderChange{Kind: pb.ChangeKind_CHANGE_KIND_DELETE, Name: scanField})
	add := func(name, value string) {
		if c, err := engine.NewChange(engine.AddField, 0, name, value); err == nil {
			cs = append(cs, &pb.HeaderChange{Kind: pb.ChangeKind_CHANGE_KIND_ADD, Name: c.Name, Value: []byte(c.Value)})
		}
	}
	add(scanField, r.Tells(verdicts))
	for _, i := range r.Tags {
		for _, f := range p.Rules[i].Header {
			name, value := cutField(f)
			add(name, value)
		}
		if s := p.Rules[i].Subject; s != "" {
			cs = append(cs, &pb.HeaderChange{Kind: pb.ChangeKind_CHANGE_KIND_PREFIX, Name: "Subject", Value: []byte(s)})
		}
	}
	return cs
}

var kinds = [...]pb.ChangeKind{
	engine.AddField: pb.ChangeKind_CHANGE_KIND_ADD, engine.InsertField: pb.ChangeKind_CHANGE_KIND_INSERT,
	engine.ReplaceField: pb.ChangeKind_CHANGE_KIND_REPLACE, engine.DeleteField: pb.ChangeKind_CHANGE_KIND_DELETE,
}

// Read are verdicts as they were when they were recorded, as far as a ruling
// depends on them; replies of engines, and whom they refused, aren't recorded.
func Read(recorded []*pb.Verdict) []Said {
	out := make([]Said, len(recorded))
	for i, v := range recorded {
		out[i].Verdict = engine.Verdict{
			Engine: v.Engine, Outcome: engine.ParseOutcome(v.Outcome), Reason: engine.ParseReason(v.Reason), Advice: engine.ParseAdvice(v.Advice),
			Name: v.Name, Detail: v.Detail, Signatures: v.Signatures, Score: v.Score, Threshold: v.Threshold,
		}
	}
	return out
}

// Answerable reports whether a refusal is told to who sent the mail, and to
// nobody whose address was made up: the client signed in or may relay, or the
// reverse-path's domain was authenticated.
func Answerable(reversePath string, s *pb.Session, verified bool) bool {
	return reversePath != "" && (s.GetAuthUser() != "" || s.GetRelay() || verified)
}
