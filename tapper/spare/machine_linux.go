package spare

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// machine reads the first line of /proc/stat (proc(5)).
func machine() (times, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return times{}, fmt.Errorf("look at the processors: %w", err)
	}
	return parse(string(text))
}

// errStat is a file that isn't what proc(5) says.
var errStat = errors.New("/proc/stat can't be read")

// Fields behind "cpu"; guests' time is in user and nice already.
const (
	nice   = 1
	idle   = 3
	iowait = 4
	fields = 8
)

func parse(text string) (t times, err error) {
	line, _, _ := strings.Cut(text, "\n")
	words := strings.Fields(line)
	if len(words) < fields+1 || words[0] != "cpu" {
		return t, errStat
	}
	for i, w := range words[1 : fields+1] {
		n, err := strconv.ParseUint(w, 10, 64)
		if err != nil {
			return t, errStat
		}
		t.all += float64(n)
		if i == nice || i == idle || i == iowait {
			t.idle += float64(n)
		}
	}
	return t, nil
}
