package unpack_test

import (
	"testing"

	"qstream/engine"
	"qstream/engine/clamd"
	"qstream/engine/enginetest"
	"qstream/engine/unpack"
	"qstream/test/peers"
)

// TestWhatRealClamdPasses: the hole that this engine is there for.
func TestWhatRealClamdPasses(t *testing.T) {
	peers.Need(t)
	d := peers.StartClamd(t) // MaxFileSize 5M
	c, err := clamd.New(clamd.Config{Network: "unix", Address: d.Socket()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	e := limited(t, unpack.Config{Member: 5 << 20, Total: 20 << 20})
	hidden := carrying(one(append(zeros(20<<20), peers.EICAR...)))
	if v := enginetest.Ask(t, c, hidden); v.Outcome != engine.Clean {
		t.Logf("this clamd doesn't pass it any more: %+v", v)
	}
	if v := enginetest.Ask(t, e, hidden); v.Outcome != engine.Unscannable || v.Reason != engine.TooLarge {
		t.Errorf("%+v", v)
	}
	// What clamd does look into isn't held back.
	plain := carrying(one(append(zeros(4<<20), peers.EICAR...)))
	if v := enginetest.Ask(t, c, plain); v.Outcome != engine.Malware {
		t.Errorf("clamd: %+v", v)
	}
	if v := enginetest.Ask(t, e, plain); v.Outcome != engine.Clean {
		t.Errorf("unpack: %+v", v)
	}
}
