package schemas

// How legs of a message are numbered, so that no number comes twice however
// often and in whatever parts it returns: a recipient is in one leg only at a
// time.
const (
	// RerouteSpan separates the numbers of one routing from the next: a rerouted
	// leg's is reroutes*RerouteSpan plus its lowest recipient number.
	RerouteSpan = 1_000_000
	// SplitLegs is where the numbers of legs begin that the scanner splits off
	// from others, by the same rule: the router's are below. The part with the
	// lowest recipient keeps its leg's number.
	SplitLegs = 1 << 30
)
