package directory

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

var units = []struct {
	letter byte
	length time.Duration
}{{'d', 24 * time.Hour}, {'h', time.Hour}, {'m', time.Minute}, {'s', time.Second}}

const maxDuration = 10 * 365 * 24 * time.Hour

// ParseDuration reads "5d", "36h", "1h30m", "90s". A bare number is refused:
// qmail's queuelifetime is in seconds and was taken for minutes for years.
func ParseDuration(s string) (time.Duration, error) {
	if s == "" {
		return 0, errors.New("a duration is missing, such as 30s, 15m, 4h or 5d")
	}
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		return 0, fmt.Errorf("%q has no unit: write %ss, %sm, %sh or %sd for seconds, minutes, hours or days", s, s, s, s, s)
	}
	var total time.Duration
	rest, next := s, 0
	for rest != "" {
		digits := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
		if digits <= 0 {
			return 0, badDuration(s)
		}
		n, err := strconv.ParseInt(rest[:digits], 10, 64)
		unit := unitAt(rest[digits], next)
		if err != nil || unit < 0 {
			return 0, badDuration(s)
		}
		if n > int64((maxDuration-total)/units[unit].length) {
			return 0, fmt.Errorf("%q is longer than ten years", s)
		}
		total += time.Duration(n) * units[unit].length
		rest, next = rest[digits+1:], unit+1
	}
	return total, nil
}

// unitAt is the index of a unit that comes at or after from: units descend.
func unitAt(letter byte, from int) int {
	for i := from; i < len(units); i++ {
		if units[i].letter == letter {
			return i
		}
	}
	return -1
}

func badDuration(s string) error {
	return fmt.Errorf("%q is no duration: use s, m, h and d, such as 30s, 15m, 4h, 5d or 1h30m", s)
}

// FormatDuration is the shortest form that ParseDuration reads; parts of a
// second are dropped.
func FormatDuration(d time.Duration) string {
	if d < time.Second {
		return "0s"
	}
	var b strings.Builder
	for _, u := range units {
		if n := d / u.length; n > 0 {
			fmt.Fprintf(&b, "%d%c", n, u.letter)
			d -= n * u.length
		}
	}
	return b.String()
}
