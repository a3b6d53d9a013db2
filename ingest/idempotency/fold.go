package idempotency

import (
	"time"

	pb "qstream/schemas/qstream/v1"
)

// Kept is how long a key is known since its last record, by the broker's
// clock.
const Kept = 24 * time.Hour

// entry is what an edge knows of a key. Times are Unix seconds.
type entry struct {
	at      int64  // offset of the record that tells more
	claim   int64  // offset of the newest claim that counts
	lease   uint32 // end of that claim's lease
	expires uint32
	state   pb.SubmissionState
}

// record is what fold looks at.
type record struct {
	state  pb.SubmissionState
	base   int64 // offset of the claim that it settles or takes over from; -1: none
	lease  time.Duration
	offset int64
	at     time.Time // appended
}

// fold is what a record makes of a key; was is nil for one that isn't known.
// All edges fold alike, since they read the same records in the same order: so
// all agree whose claim counts. What does not count changes nothing.
func fold(was *entry, r record) (is entry, counts bool) {
	if was != nil && seconds(r.at) >= was.expires {
		was = nil
	}
	is = entry{at: r.offset, claim: r.base, expires: seconds(r.at.Add(Kept)), state: r.state}
	switch r.state {
	case pb.SubmissionState_SUBMISSION_STATE_CLAIMED:
		is.claim = r.offset
		is.lease = seconds(r.at.Add(r.lease).Add(time.Second - 1)) // rounded up
		return is, was == nil || r.base == was.claim && was.free(r.at)
	case pb.SubmissionState_SUBMISSION_STATE_OPEN, pb.SubmissionState_SUBMISSION_STATE_DONE:
		// Only who owns a claim that counts settles it. The records in between
		// may be compacted away.
		return is, r.base >= 0 && (was == nil || r.base > was.claim || r.base == was.claim && was.state != pb.SubmissionState_SUBMISSION_STATE_DONE)
	}
	return is, false
}

// free reports a key that another request may claim: the answer isn't there,
// and nobody is at work on it.
func (e *entry) free(now time.Time) bool {
	switch e.state {
	case pb.SubmissionState_SUBMISSION_STATE_OPEN:
		return true
	case pb.SubmissionState_SUBMISSION_STATE_CLAIMED:
		return seconds(now) >= e.lease
	}
	return false
}

func seconds(t time.Time) uint32 { return uint32(max(t.Unix(), 0)) }
