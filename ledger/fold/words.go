package fold

import (
	"strings"

	pb "qstream/schemas/qstream/v1"
)

var placeNames = [...]string{"received", "reinject", "queue", "delay", "parked", "deadletter", "scan", "quarantine"}

// String is the place's word.
func (p Place) String() string {
	if int(p) < len(placeNames) {
		return placeNames[p]
	}
	return "unknown"
}

// ParsePlace reads a place's word.
func ParsePlace(word string) (Place, bool) {
	for i, name := range placeNames {
		if name == word {
			return Place(i), true
		}
	}
	return 0, false
}

// Places are the words of all places.
func Places() []string { return placeNames[:] }

const reasonPrefix = "REASON_"

// ReasonWord is why a leg waits, as one word; "" without a reason.
func ReasonWord(r pb.Reason) string {
	if r == pb.Reason_REASON_UNSPECIFIED {
		return ""
	}
	return strings.ToLower(strings.TrimPrefix(r.String(), reasonPrefix))
}

// ParseReason reads a reason's word.
func ParseReason(word string) (pb.Reason, bool) {
	n, ok := pb.Reason_value[reasonPrefix+strings.ToUpper(word)]
	return pb.Reason(n), ok && n != 0
}

// Reasons are the words of all reasons.
func Reasons() []string {
	var words []string
	for n := range int32(len(pb.Reason_name)) {
		if word := ReasonWord(pb.Reason(n)); word != "" {
			words = append(words, word)
		}
	}
	return words
}
