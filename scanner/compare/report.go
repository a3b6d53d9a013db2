package compare

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// Selection says which comparisons are meant; what is empty means any.
type Selection struct {
	Tenant string
	Policy string    // in force, or the shadow
	Since  time.Time // told at or after
	// Examples is how many differing messages are kept of each pair of
	// actions, the latest; 0: none.
	Examples int
}

// Report is what the comparisons of a selection came to: by tenant and
// policies, and in all by policies.
type Report struct {
	Tenants []Group `json:"tenants"`
	Totals  []Group `json:"totals"`
}

// Group are the comparisons of two policies, of one tenant or of all. Numbers
// are of recipients.
type Group struct {
	Tenant    string    `json:"tenant,omitempty"` // empty: of all
	Policy    string    `json:"policy"`
	Shadow    string    `json:"shadow"`
	Compared  uint64    `json:"compared"`
	Differing uint64    `json:"differing"`
	Missed    uint64    `json:"not_compared"` // the shadow had no room for them
	Since     time.Time `json:"since"`        // of the first
	Cells     []Cell    `json:"table"`        // the most frequent first
	Engines   []Engine  `json:"engines"`
	Examples  []Example `json:"examples"`
}

// Cell is how many recipients' mail went one way, and would have gone another.
type Cell struct {
	Action     string `json:"action"`
	Shadow     string `json:"shadow_action"`
	Recipients uint64 `json:"recipients"`
}

// Engine is how long one took. Verdicts from memory don't count.
type Engine struct {
	Engine string        `json:"engine"`
	Shadow bool          `json:"shadow"`
	Scans  uint64        `json:"scans"`
	Median time.Duration `json:"median_ns"`
	P99    time.Duration `json:"p99_ns"`
}

// Example is a recipient whose mail would have gone another way. Texts are as
// engines and clients gave them: hostile.
type Example struct {
	MessageID     string    `json:"message_id"`
	Leg           uint32    `json:"leg"`
	At            time.Time `json:"at"`
	Tenant        string    `json:"tenant"`
	Queue         string    `json:"queue"`
	Recipient     string    `json:"recipient"`
	Action        string    `json:"action"`
	Finding       string    `json:"finding,omitempty"`
	Shadow        string    `json:"shadow_action"`
	ShadowFinding string    `json:"shadow_finding,omitempty"`
	Verdicts      []string  `json:"verdicts"`
	ShadowSaid    []string  `json:"shadow_verdicts"`
}

// compared reports a header of an event that tells comparisons.
func compared(h bus.Header) bool {
	return h.Key == bus.HeaderEvent &&
		(string(h.Value) == pb.EventType_EVENT_TYPE_COMPARED.String() || string(h.Value) == pb.EventType_EVENT_TYPE_TALLIED.String())
}

// Read reports about what the events topic tells. Its error is the bus's.
func Read(ctx context.Context, b *bus.Bus, s Selection) (Report, error) {
	f := newFold(s)
	err := b.Read(ctx, []string{schemas.Events}, bus.Start{Since: s.Since, Pace: bus.Gently()}, func(r bus.Record) error {
		if !slices.ContainsFunc(r.Headers, compared) { // most aren't: they needn't be decoded
			return nil
		}
		var e pb.Event
		if proto.Unmarshal(r.Value, &e) == nil { // garbage tells nothing
			f.add(&e)
		}
		return nil
	})
	if err != nil {
		return Report{}, fmt.Errorf("read comparisons: %w", err)
	}
	return f.report(), nil
}
