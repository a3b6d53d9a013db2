package spare

import (
	"errors"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]times{
		"cpu  1 2 4 8 16 32 64 128 256 512\ncpu0 1 1 1 1 1 1 1 1\n": {idle: 26, all: 255},
		"cpu 10 0 0 90 0 0 0 0": {idle: 90, all: 100},
	} {
		if got, err := parse(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "cpu", "cpu 1 2 3 4 5 6 7", "cpu 1 2 3 x 5 6 7 8", "cpu0 1 2 3 4 5 6 7 8", strings.Repeat("9", 1000)} {
		if _, err := parse(text); !errors.Is(err, errStat) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if got, err := machine(); err != nil || got.all <= 0 || got.idle > got.all {
		t.Errorf("this machine: %+v, %v", got, err)
	}
}
