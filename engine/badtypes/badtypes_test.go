package badtypes_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"qstream/engine"
	"qstream/engine/badtypes"
	"qstream/engine/enginetest"
)

const (
	mimeList   = "# programs\nTVqQAAMAA\nUEsDBBQAA\n"
	loaderList = "MZAAA\nMZBBB\n"
)

func searching(t *testing.T, cfg badtypes.Config) *badtypes.Engine {
	t.Helper()
	e, err := badtypes.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func coded(body string) string {
	return "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\n" + body + "\r\n--b--\r\n"
}

// TestSuite: what the suite calls bad is the mark of a kind here.
func TestSuite(t *testing.T) {
	failing := func(path string) enginetest.Failing {
		return enginetest.Failing{Reason: engine.Trouble, New: func(t *testing.T) engine.Engine {
			if path == "" {
				path = filepath.Join(t.TempDir(), "list")
				if err := os.WriteFile(path, []byte("short\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			return searching(t, badtypes.Config{MIMEFile: path})
		}}
	}
	enginetest.Run(t, enginetest.Maker{
		Own:     func(t *testing.T) engine.Engine { return marked{searching(t, badtypes.Config{MIME: mimeList})} },
		Failing: map[string]enginetest.Failing{"no such list": failing("/nonexistent/badmimetypes"), "a broken list": failing("")},
		// Content is read up to the first finding only.
		MayEndEarly: true,
	})
}

func TestFindings(t *testing.T) {
	both := badtypes.Config{MIME: mimeList, Loaders: loaderList, Blanks: true}
	for name, test := range map[string]struct {
		cfg  badtypes.Config
		mail string
		name string // empty: clean
	}{
		"nothing":            {both, coded("dGV4dA=="), ""},
		"a program":          {both, coded("TVqQAAMAAAAEAAAA"), "badmimetype"},
		"in plain text":      {both, "Subject: x\r\n\r\nTVqQAAMAAAAEAAAA\r\n", ""},
		"not at the start":   {both, coded("AAAATVqQAAMAAAAEAAAA"), ""},
		"a loader":           {both, coded("dGV4dGV4dGV4dGV4dGMZBBBdA=="), "badloadertype"},
		"a blank":            {both, coded("dGV4 dA=="), "blank in base64"},
		"a blank is allowed": {badtypes.Config{MIME: mimeList}, coded("dGV4 dA=="), ""},
		"far behind":         {both, coded(strings.Repeat("dGV4dGV4dGV4\r\n", 100_000)) + coded("TVqQAAMAAAAEAAAA"), "badmimetype"},
	} {
		t.Run(name, func(t *testing.T) {
			v := enginetest.Ask(t, searching(t, test.cfg), test.mail)
			if v.Name != test.name || (v.Outcome == engine.Clean) != (test.name == "") || v.Bad() != (test.name != "") {
				t.Errorf("%+v", v)
			}
			if v.Bad() && (v.Status.Code != 554 || v.Advice != engine.Refuse) || v.Signatures == "" {
				t.Errorf("%+v", v)
			}
		})
	}
}

// TestListsThatChange are in force at the next scan, under another name.
func TestListsThatChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "badmimetypes")
	at := time.Now()
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		at = at.Add(time.Second) // file systems tell times coarsely
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	write("UEsDBBQAA\n")
	e := searching(t, badtypes.Config{MIMEFile: path})
	program := coded("TVqQAAMAAAAEAAAA")
	before := enginetest.Ask(t, e, program)
	write("TVqQAAMAA\n")
	after := enginetest.Ask(t, e, program)
	if before.Outcome != engine.Clean || after.Outcome != engine.Refused || before.Signatures == after.Signatures {
		t.Errorf("%+v, then %+v", before, after)
	}
	s, err := e.State(t.Context())
	if err != nil || s.Signatures != after.Signatures || !s.Built.Equal(at) {
		t.Errorf("%+v, %v", s, err)
	}
	write("broken\n")
	if v := enginetest.Ask(t, e, program); v.Outcome != engine.Failed {
		t.Errorf("a broken list: %+v", v)
	}
	write(strings.Repeat("TVqQAAMAA\n", 200_000))
	if v := enginetest.Ask(t, e, program); v.Outcome != engine.Failed {
		t.Errorf("an endless list: %+v", v)
	}
	write("TVqQAAMAA\n")
	if v := enginetest.Ask(t, e, program); v.Outcome != engine.Refused {
		t.Errorf("mended: %+v", v)
	}
}

func TestNewRefuses(t *testing.T) {
	for i, cfg := range []badtypes.Config{
		{}, {MIME: "short"}, {Loaders: "MZAAA\nTZAAA\n"}, {MIMEFile: "relative"}, {MIME: mimeList, MIMEFile: "/list"},
	} {
		if _, err := badtypes.New(cfg); err == nil {
			t.Errorf("%d: %+v is taken", i, cfg)
		}
	}
}
