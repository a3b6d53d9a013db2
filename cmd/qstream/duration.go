package main

import (
	"reflect"
	"strings"
	"time"

	"github.com/alecthomas/kong"

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

// durations reads time.Duration, the settings of processes, in the same units;
// some take a negative one for never. What Go writes (250ms, 1.5h) stands, too.
func durations() kong.Option {
	return kong.TypeMapper(reflect.TypeFor[time.Duration](), kong.MapperFunc(func(ctx *kong.DecodeContext, target reflect.Value) error {
		var text string
		if err := ctx.Scan.PopValueInto("duration", &text); err != nil {
			return err
		}
		positive, negative := strings.CutPrefix(text, "-")
		v, err := directory.ParseDuration(positive)
		if negative {
			v = -v
		}
		if err != nil {
			var other error
			if v, other = time.ParseDuration(text); other != nil || v == 0 {
				return err
			}
		}
		target.Set(reflect.ValueOf(v))
		return nil
	}))
}
