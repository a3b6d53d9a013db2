package main

import (
	"time"

	"qstream/directory"
)

// duration is a flag in s, m, h or d, as the directory writes them; a bare
// number is refused.
type duration time.Duration

// UnmarshalText reads "36h".
func (d *duration) UnmarshalText(text []byte) error {
	v, err := directory.ParseDuration(string(text))
	*d = duration(v)
	return err
}
