package engine

import "slices"

// ParseOutcome is the outcome of a name; Failed, which is no verdict, of any
// other.
func ParseOutcome(name string) Outcome { return Outcome(max(0, slices.Index(outcomes[:], name))) }

// ParseReason is the reason of a name; none of any other.
func ParseReason(name string) Reason { return Reason(max(0, slices.Index(reasons[:], name))) }

// ParseAdvice is the advice of a name; none of any other.
func ParseAdvice(name string) Advice { return Advice(max(0, slices.Index(advices[:], name))) }
