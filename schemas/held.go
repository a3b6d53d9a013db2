package schemas

import pb "qstream/schemas/qstream/v1"

// Held reports a leg that was taken above a quota: it waits until it is let go
// on. All recipients of a leg are alike.
func Held(l *pb.Leg) bool {
	for _, r := range l.GetRecipients() {
		if r.Held {
			return true
		}
	}
	return false
}

// LetGo makes a held leg one like the others.
func LetGo(l *pb.Leg) {
	for _, r := range l.GetRecipients() {
		r.Held = false
	}
}
