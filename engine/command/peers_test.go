package command_test

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"syscall"
	"testing"

	"qstream/engine"
	"qstream/engine/command"
	"qstream/engine/enginetest"
	"qstream/test/peers"
)

// TestRealClamdscan is what s/qmail's own sample rules call.
func TestRealClamdscan(t *testing.T) {
	peers.Need(t)
	d := peers.StartClamd(t)
	e := scanner(t, command.Config{Program: "/usr/bin/clamdscan", Args: []string{"--config-file=" + d.Config(), "--stream", "--no-summary"},
		Base64: true, MaxSize: 1 << 20})
	var zipped bytes.Buffer
	w := zip.NewWriter(&zipped)
	f, err := w.Create("inside")
	if err == nil {
		_, err = f.Write([]byte(peers.EICAR))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	coded := func(b []byte) string {
		return "MIME-Version: 1.0\r\nContent-Type: application/zip\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.StdEncoding.EncodeToString(b) + "\r\n"
	}
	for name, test := range map[string]struct {
		mail string
		want engine.Outcome
	}{
		"clean": {coded([]byte("nothing here")), engine.Clean}, "base64": {coded([]byte(peers.EICAR)), engine.Malware},
		"zip": {coded(zipped.Bytes()), engine.Malware}, "without base64": {"Subject: x\r\n\r\n" + peers.EICAR + "\r\n", engine.Unscannable},
		"too large": {coded(make([]byte, 2<<20)), engine.Unscannable},
	} {
		v := enginetest.Ask(t, e, test.mail)
		if v.Outcome != test.want || v.Outcome == engine.Malware && v.Name != "Test.EICAR.UNOFFICIAL" {
			t.Errorf("%s: %+v", name, v)
		}
	}
	if err := d.Process().Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Process().Wait(); err != nil {
		t.Log(err)
	}
	if v := enginetest.Ask(t, e, coded([]byte("nothing here"))); v.Outcome != engine.Failed || v.Reason != engine.Trouble {
		t.Errorf("without clamd: %+v", v)
	}
}
