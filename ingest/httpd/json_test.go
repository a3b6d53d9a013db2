package httpd

import (
	"encoding/json"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// Values are counted before they are decoded; what stands in strings isn't.
func TestJSONValuesAreBounded(t *testing.T) {
	text, err := json.Marshal(strings.Repeat(`,[{:"\`, maxValues))
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		text string
		left int
		fits bool
	}{
		"few":             {`{"a":[1,2]}`, maxValues - 4, true},
		"text":            {string(text), maxValues, true},
		"empty objects":   {"[" + strings.Repeat("{},", maxValues/2) + "{}]", 0, false},
		"empty strings":   {"[" + strings.Repeat(`"",`, maxValues) + `""]`, 0, false},
		"behind a string": {`["\\",` + strings.Repeat(`"\"",`, maxValues) + `""]`, 0, false},
		"depth":           {strings.Repeat("[", maxValues+1), 0, false},
	} {
		for _, r := range []io.Reader{strings.NewReader(tt.text), iotest.OneByteReader(strings.NewReader(tt.text))} {
			c := &counted{r: r, left: int64(len(tt.text)), values: maxValues}
			_, err := io.Copy(io.Discard, c)
			if (err == nil) != tt.fits || tt.fits && c.values != tt.left || c.over {
				t.Errorf("%s: %v, %d left", name, err, c.values)
			}
		}
	}
}
