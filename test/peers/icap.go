package peers

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
)

// StartICAP starts a c-icap whose service "av" asks a clamd, with bodies of at
// most 1 MB; it returns its TCP address.
func StartICAP(t testing.TB, d *Clamd) string {
	t.Helper()
	dir, port := folder(t), freePort(t)
	host, clamd, err := net.SplitHostPort(d.Addr())
	if err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob("/usr/lib/*/c_icap/srv_echo.so")
	if err != nil || len(found) == 0 {
		t.Fatalf("c-icap is not installed: %v", err)
	}
	modules := filepath.Dir(found[0])
	conf := write(t, dir, "c-icap.conf", strings.NewReplacer("@dir", dir, "@port", fmt.Sprint(port), "@modules", modules,
		"@host", host, "@clamd", clamd).Replace(icapConf))
	start(t, filepath.Join(dir, "out"), "c-icap", "-N", "-f", conf)
	return listening(t, port, filepath.Join(dir, "out"))
}

const icapConf = `PidFile @dir/pid
CommandsSocket @dir/ctl
TmpDir @dir
ServerLog @dir/server.log
AccessLog @dir/access.log
Port 127.0.0.1:@port
StartServers 1
ModulesDir @modules
ServicesDir @modules
Service av virus_scan.so
Module common clamd_mod.so
clamd_mod.ClamdHost @host
clamd_mod.ClamdPort @clamd
virus_scan.DefaultEngine clamd
virus_scan.ScanFileTypes TEXT DATA EXECUTABLE ARCHIVE GIF JPEG MSOFFICE
virus_scan.MaxObjectSize 1M
virus_scan.SendPercentData 0
virus_scan.StartSendPercentDataAfter 64M
virus_scan.Allow204Responces on
`
