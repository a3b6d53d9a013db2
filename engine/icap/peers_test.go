package icap_test

import (
	"strings"
	"testing"
	"time"

	"qstream/engine"
	"qstream/engine/enginetest"
	"qstream/engine/icap"
	"qstream/test/peers"
)

func TestRealICAP(t *testing.T) {
	peers.Need(t)
	addr := peers.StartICAP(t, peers.StartClamd(t))
	c, err := icap.New(icap.Config{Network: "tcp", Address: addr, Service: "av", MaxSize: 1 << 20, Patience: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.State(t.Context())
	if err != nil || s.Signatures == "" {
		t.Errorf("%+v, %v", s, err)
	}
	text := strings.Repeat("some text of a line\r\n", 2000)
	for name, test := range map[string]struct {
		mail    string
		outcome engine.Outcome
	}{
		"clean, short":      {"Subject: x\r\n\r\ntext\r\n", engine.Clean},
		"clean, longer":     {"Subject: x\r\n\r\n" + text, engine.Clean},
		"infected, short":   {"Subject: x\r\n\r\n" + peers.EICAR + "\r\n", engine.Malware},
		"infected, longer":  {"Subject: x\r\n\r\n" + text + peers.EICAR + "\r\n", engine.Malware},
		"infected, too big": {"Subject: x\r\n\r\n" + strings.Repeat(text, 50) + peers.EICAR + "\r\n", engine.Unscannable},
	} {
		for range 2 {
			v := enginetest.Ask(t, c, test.mail)
			if v.Outcome != test.outcome || v.Outcome == engine.Malware && v.Name != "Test.EICAR.UNOFFICIAL" {
				t.Errorf("%s: %+v", name, v)
			}
		}
	}
}

// TestRealICAPBeyondItsLimit: a MaxSize above the server's own is a mistake that
// no mail pays for: the server tells by its preview, or by handing the message
// back, that it doesn't scan.
func TestRealICAPBeyondItsLimit(t *testing.T) {
	peers.Need(t)
	addr := peers.StartICAP(t, peers.StartClamd(t))
	c, err := icap.New(icap.Config{Network: "tcp", Address: addr, Service: "av", MaxSize: 64 << 20, Patience: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1<<20 + 100, 3 << 20} {
		mail := "Subject: x\r\n\r\n" + strings.Repeat("some text of a line\r\n", size/21) + peers.EICAR + "\r\n"
		for _, told := range []int64{0, int64(len(mail))} {
			v := c.Scan(t.Context(), strings.NewReader(mail), enginetest.Facts(told))
			if v.Outcome != engine.Unscannable {
				t.Errorf("%d bytes, %d told: %+v", len(mail), told, v)
			}
		}
	}
}
