package httpd

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"qstream/ingest/share"
)

// Values of two octets would take fifty times that: there is a limit to them,
// wherever they stand.
func TestJSONValues(t *testing.T) {
	const many = maxValues + 1
	for name, body := range map[string]string{
		"messages":    `{"messages":[` + strings.Repeat("{},", many) + `{}]}`,
		"recipients":  `{"raw":"x","envelope":{"from":"","to":[` + strings.Repeat(`"",`, many) + `""]}}`,
		"attachments": `{"message":{"attachments":[` + strings.Repeat("{},", many) + `{}]}}`,
		"keywords":    `{"raw":"x","envelope":{"to":[{"notify":[` + strings.Repeat(`"",`, many) + `""]}]}}`,
		"headers":     `{"message":{"headers":{` + strings.Repeat(`"":"",`, many) + `"":""}}}`,
	} {
		cfg := Config{}.withDefaults()
		r := httptest.NewRequest(http.MethodPost, Path, strings.NewReader(body))
		x := &exchange{h: &Handler{cfg: cfg, json: share.New(cfg.JSONMemory, cfg.JSONMemory)}, r: r, body: r.Body, who: client{ctx: t.Context()}}
		_, err := x.fromJSON()
		var p *problem
		if !errors.As(err, &p) || p.Status != http.StatusRequestEntityTooLarge || !strings.Contains(p.Detail, "values") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What stands in strings is no value, wherever reads end.
func TestCounted(t *testing.T) {
	for text, want := range map[string]int{
		`1`: 0, `[1,2]`: 2, `{"a":[{}]}`: 3, `",[{"`: 0, `"\",["`: 0, `"\\",[`: 2, `"\\\",","` + `,`: 1,
	} {
		for size := 1; size <= len(text); size++ {
			c := &counted{r: strings.NewReader(text), left: 100, values: 100}
			for err := error(nil); err == nil; {
				_, err = c.Read(make([]byte, size))
			}
			if got := 100 - c.values; got != want {
				t.Errorf("%s by %d: %d values, want %d", text, size, got, want)
			}
		}
	}
	c := &counted{r: strings.NewReader("[[["), left: 100, values: 2}
	if _, err := io.ReadAll(c); err == nil || c.values >= 0 {
		t.Errorf("%v, %d left", err, c.values)
	}
}
