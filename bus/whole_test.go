package bus

import (
	"errors"
	"strconv"
	"strings"
	"testing"
)

// A record is "whole N", "part N", where N is the whole record that it names,
// or garbage.
func TestWhole(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.bus()
	named := func(r Record) (int64, error) {
		_, offset, ok := strings.Cut(string(r.Value), " ")
		if !ok {
			return 0, errors.New("garbage")
		}
		return strconv.ParseInt(offset, 10, 64)
	}
	whole := func(r Record) bool { return strings.HasPrefix(string(r.Value), "whole ") }
	garbage := func(n int) []string { return make([]string, n) }
	for name, tt := range map[string]struct {
		records []string
		want    int64
	}{
		"empty":                   {nil, 0},
		"no whole record":         {[]string{"part 0", "part 0"}, 0},
		"the newest":              {[]string{"part 0", "whole 0", "part 1", "whole 1", "part 3"}, 3},
		"named by an older one":   {[]string{"part 0", "whole 0", "part 1", "x", "part 0"}, 1},
		"a whole one names none":  {[]string{"part 0", "part 0", "whole 0"}, 0},
		"it isn't whole":          {[]string{"part 0", "part 0", "part 1"}, 0},
		"it isn't there":          {[]string{"part 0", "whole 0", "part 7"}, 0},
		"garbage behind it":       {append([]string{"part 0", "whole 0", "part 1"}, garbage(LookBack-1)...), 1},
		"nothing but garbage yet": {append([]string{"part 0", "whole 0", "part 1"}, garbage(LookBack)...), 0},
	} {
		topic := r.topic("", strings.NewReplacer(" ", "-", "'", "").Replace(name), 1)
		for _, value := range tt.records {
			r.publish(b, &Record{Topic: topic, Value: []byte(value)})
		}
		if got, err := b.Whole(t.Context(), topic, named, whole); err != nil || got != tt.want {
			t.Errorf("%s: %d, %v, want %d", name, got, err, tt.want)
		}
	}
	if _, err := b.Whole(t.Context(), "no.such.topic", named, whole); err == nil {
		t.Error("a topic that isn't there")
	}
}
