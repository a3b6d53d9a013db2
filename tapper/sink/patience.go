package sink

import "time"

// Margin is how long before content leaves its topic it is too late to wait
// for its sink any longer.
const Margin = 24 * time.Hour

// Patience is for how long content waits for its sink where it is: a day less
// than its topic keeps it, or half of that where a day is much.
func Patience(retention time.Duration) time.Duration {
	if retention > 2*Margin {
		return retention - Margin
	}
	return retention / 2
}
