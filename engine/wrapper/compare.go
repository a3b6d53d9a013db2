package wrapper

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"

	"qstream/engine"
)

const (
	maxHeader = 2 << 20
	// maxPairs bounds the work of comparing two headers.
	maxPairs = 1 << 20
)

// compare finds the changes that make a message into the one that was passed
// on. Only the header may differ.
func compare(ctx context.Context, before, after string) ([]engine.Change, error) {
	a, err := openMessage(before)
	if err != nil {
		return nil, err
	}
	defer a.file.Close()
	b, err := openMessage(after)
	if err != nil {
		return nil, err
	}
	defer b.file.Close()
	if err := same(ctx, a.in, b.in); err != nil {
		return nil, err
	}
	return changes(a.fields, b.fields)
}

// parsed is a message whose header has been read.
type parsed struct {
	file   *os.File
	in     *bufio.Reader // at the empty line, or at the end
	fields []string      // with their line ends
}

func openMessage(path string) (*parsed, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, engine.Fail(engine.Trouble, "read a message back: %w", err)
	}
	p := &parsed{file: f, in: bufio.NewReaderSize(f, 64<<10)}
	if p.fields, err = header(p.in); err != nil {
		_ = f.Close()
		return nil, err
	}
	return p, nil
}

// header reads up to the empty line, which it leaves.
func header(in *bufio.Reader) ([]string, error) {
	var fields []string
	size := 0
	for {
		next, err := in.Peek(1)
		if err == io.EOF || err == nil && next[0] == '\n' {
			return fields, nil
		}
		if err != nil {
			return nil, engine.Fail(engine.Trouble, "read a message back: %w", err)
		}
		var line []byte
		for {
			piece, err := in.ReadSlice('\n')
			line = append(line, piece...)
			if size += len(piece); size > maxHeader {
				return nil, engine.Fail(engine.Broken, "a header of more than %d bytes can't be compared", maxHeader)
			}
			if !errors.Is(err, bufio.ErrBufferFull) {
				break // at the line's end, or the message's; failures come again
			}
		}
		if n := len(fields); n > 0 && (line[0] == ' ' || line[0] == '\t') {
			fields[n-1] += string(line)
			continue
		}
		fields = append(fields, string(line))
	}
}

// same reads both to their ends.
func same(ctx context.Context, a, b io.Reader) error {
	x, y := make([]byte, 64<<10), make([]byte, 64<<10)
	for ctx.Err() == nil {
		n, errA := io.ReadFull(a, x)
		m, errB := io.ReadFull(b, y)
		if !ends(errA) || !ends(errB) {
			return engine.Fail(engine.Trouble, "read a message back: %w", errors.Join(errA, errB))
		}
		if !bytes.Equal(x[:n], y[:m]) {
			return engine.Fail(engine.Broken, "the body was changed")
		}
		if errA != nil {
			return nil
		}
	}
	return ctx.Err()
}

func ends(err error) bool {
	return err == nil || err == io.EOF || err == io.ErrUnexpectedEOF
}

// changes makes the header a into b: what stays is the longest common
// sequence of fields.
func changes(a, b []string) ([]engine.Change, error) {
	first := 0
	for first < min(len(a), len(b)) && a[first] == b[first] {
		first++
	}
	last := 0
	for last < min(len(a), len(b))-first && a[len(a)-1-last] == b[len(b)-1-last] {
		last++
	}
	x, y := a[first:len(a)-last], b[first:len(b)-last]
	if len(x)*len(y) > maxPairs {
		return nil, engine.Fail(engine.Broken, "%d header fields were changed, which is too many to tell which", max(len(x), len(y)))
	}
	common := table(x, y)
	var all []engine.Change
	add := func(kind engine.ChangeKind, index int, name, value string) error {
		c, err := engine.NewChange(kind, index, name, value)
		if err != nil {
			return engine.Fail(engine.Broken, "the header was changed: %w", err)
		}
		if len(all) == engine.MaxChanges {
			return engine.Fail(engine.Broken, "more than %d changes of the header", engine.MaxChanges)
		}
		all = append(all, c)
		return nil
	}
	for i, j := 0, 0; i < len(x) || j < len(y); {
		switch {
		case i < len(x) && j < len(y) && x[i] == y[j]:
			i, j = i+1, j+1
		case j < len(y) && (i == len(x) || common[i][j+1] >= common[i+1][j]):
			name, value := split(y[j])
			kind := engine.InsertField
			if first+i == len(a) {
				kind = engine.AddField
			}
			if err := add(kind, first+i, name, value); err != nil {
				return nil, err
			}
			j++
		default:
			name, _ := split(x[i])
			if err := add(engine.DeleteField, nth(a[:first+i+1], name), name, ""); err != nil {
				return nil, err
			}
			i++
		}
	}
	// Of two that are inserted at one place the later is in front.
	for from := 0; from < len(all); {
		to := from + 1
		for to < len(all) && all[from].Kind == engine.InsertField && all[to].Kind == engine.InsertField && all[to].Index == all[from].Index {
			to++
		}
		slices.Reverse(all[from:to])
		from = to
	}
	return all, nil
}

// table[i][j] is the length of the longest common sequence of x[i:] and y[j:].
func table(x, y []string) [][]int32 {
	t := make([][]int32, len(x)+1)
	for i := range t {
		t[i] = make([]int32, len(y)+1)
	}
	for i := len(x) - 1; i >= 0; i-- {
		for j := len(y) - 1; j >= 0; j-- {
			if x[i] == y[j] {
				t[i][j] = t[i+1][j+1] + 1
			} else {
				t[i][j] = max(t[i+1][j], t[i][j+1])
			}
		}
	}
	return t
}

// split takes a field apart. What has no colon has no name.
func split(field string) (name, value string) {
	name, value, found := strings.Cut(field, ":")
	if !found {
		return "", ""
	}
	return strings.TrimRight(name, " \t"), strings.TrimRight(value, "\n")
}

// nth counts the fields of a name.
func nth(fields []string, name string) int {
	n := 0
	for _, f := range fields {
		if other, _ := split(f); strings.EqualFold(other, name) {
			n++
		}
	}
	return n
}
