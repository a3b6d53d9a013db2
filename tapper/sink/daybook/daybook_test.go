package daybook

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func entry(id string) []byte { return fmt.Appendf(nil, `{"id":%q,"text":"a\nb"}`, id) }

// written is a book of ten lines; its path.
func written(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "day"), 0o700); err != nil {
		t.Fatal(err)
	}
	b := New(dir)
	defer b.Close()
	for i := range 10 {
		if err := b.Append("day", "book", fmt.Sprint(i), entry(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "day", "book")
}

func count(path string) (n int, err error) {
	var wrong []error
	_, err = Lines(path, func(l Line) {
		n++
		if l.Wrong != nil {
			wrong = append(wrong, fmt.Errorf("%d: %w", l.Number, l.Wrong))
		}
	})
	return n, errors.Join(append(wrong, err)...)
}

// TestEveryChangeShows: each octet changed, each line taken out, put in twice or
// moved.
func TestEveryChangeShows(t *testing.T) {
	path := written(t)
	if n, err := count(path); n != 10 || err != nil {
		t.Fatal(n, err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(text), "\n")[:10]
	bad := map[string]string{
		"a line taken out": strings.Join(append(lines[:4:4], lines[5:]...), ""), "the first taken out": strings.Join(lines[1:], ""),
		"a line twice": strings.Join(append(lines[:5:5], lines[4:]...), ""), "two swapped": lines[1] + lines[0] + strings.Join(lines[2:], ""),
		"half a line": string(text[:len(text)-3]),
	}
	for i := range len(text) - len(lines[9]) { // the last line's hash is for somebody else to keep
		changed := append([]byte{}, text...)
		changed[i] ^= 1
		bad[fmt.Sprintf("octet %d", i)] = string(changed)
	}
	for name, text := range bad {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if n, err := count(path); err == nil {
			t.Errorf("%s: %d lines, and nothing shows", name, n)
		}
	}
}

// TestTornLine: what a crash left is cut off, and a repetition is known by who
// comes after it.
func TestTornLine(t *testing.T) {
	path := written(t)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(`{"id":"10","te`)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	b := New(filepath.Dir(filepath.Dir(path)))
	defer b.Close()
	for _, id := range []string{"9", "10", "10"} {
		if err := b.Append("day", "book", id, entry(id)); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := count(path); n != 11 || err != nil {
		t.Errorf("%d lines, %v", n, err)
	}
	if has, err := b.Has("day", "book", "3"); !has || err != nil {
		t.Error(has, err)
	}
}

// TestTwoWriters: a second one that writes to the same book reads what the
// first wrote.
func TestTwoWriters(t *testing.T) {
	path := written(t)
	dir := filepath.Dir(filepath.Dir(path))
	one, two := New(dir), New(dir)
	defer one.Close()
	defer two.Close()
	for i := range 20 {
		b := one
		if i%3 > 0 {
			b = two
		}
		if err := b.Append("day", "book", fmt.Sprint("x", i/2), entry(fmt.Sprint("x", i/2))); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := count(path); n != 20 || err != nil {
		t.Errorf("%d lines, %v", n, err)
	}
}

// TestBookTakenAway: a book that somebody moves, removes or puts another in place of
// while it is open is written to no longer: the line goes where the name says.
func TestBookTakenAway(t *testing.T) {
	for name, take := range map[string]func(path string) error{
		"removed": os.Remove,
		"moved":   func(path string) error { return os.Rename(path, path+".old") },
		"another in its place": func(path string) error {
			return errors.Join(os.WriteFile(path+".new", nil, 0o600), os.Rename(path+".new", path))
		},
		"its folder moved": func(path string) error {
			day := filepath.Dir(path)
			return errors.Join(os.Rename(day, day+".old"), os.Mkdir(day, 0o700))
		},
	} {
		path := written(t)
		b := New(filepath.Dir(filepath.Dir(path)))
		defer b.Close()
		for _, id := range []string{"10", "11", "11"} {
			if err := b.Append("day", "book", id, entry(id)); err != nil {
				t.Fatal(err)
			}
			if id == "10" {
				if err := take(path); err != nil {
					t.Fatal(err)
				}
			}
		}
		if n, err := count(path); n != 1 || err != nil {
			t.Errorf("%s: %d lines, %v", name, n, err)
		}
		// What stood in the one that is gone isn't known to be anywhere.
		if has, err := b.Has("day", "book", "10"); has || err != nil {
			t.Errorf("%s: knows what it had: %v, %v", name, has, err)
		}
	}
}

// TestEachWrongLine is told, with its number.
func TestEachWrongLine(t *testing.T) {
	path := written(t)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(text), "\n")[:10]
	lines[6] = strings.Replace(lines[6], "text", "test", 1)
	changed := strings.TrimSuffix(strings.Join(append(lines[:2], lines[3:]...), ""), "\n")
	if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	var wrong []string
	if _, err := Lines(path, func(l Line) {
		if l.Wrong != nil {
			wrong = append(wrong, fmt.Sprint(l.Number, " ", l.Wrong))
		}
	}); err != nil {
		t.Fatal(err)
	}
	const broken = " the line doesn't follow the one before it"
	if got, want := strings.Join(wrong, "; "), "3"+broken+"; 7"+broken+"; 9 the line has no end"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestRefusesWhatIsNoLine(t *testing.T) {
	path := written(t)
	b := New(filepath.Dir(filepath.Dir(path)))
	defer b.Close()
	for _, bad := range []string{"", "{}", "x", "{\"id\":\"a\"\n}"} {
		if err := b.Append("day", "book", "a", []byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
