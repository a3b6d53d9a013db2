package link

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"strings"
)

// Unknown is the party of a process that has no name.
const Unknown = "somebody"

// who is the party at the other end of a connection on this machine.
func who(c *net.TCPConn, parties []Party) string {
	peer, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return Unknown
	}
	inode := socket(peer.Port, c.LocalAddr().(*net.TCPAddr).Port)
	if inode == "" {
		return Unknown
	}
	for _, p := range parties {
		if holds(p.PID, "socket:["+inode+"]") {
			return p.Name
		}
	}
	return Unknown
}

// socket is the inode of the end at a local port of a connection to another
// port; "" when it is gone. Java's sockets are IPv6, also on 127.0.0.1.
func socket(local, remote int) string {
	mine, theirs := fmt.Sprintf(":%04X", local), fmt.Sprintf(":%04X", remote)
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(table)
		if err != nil {
			continue
		}
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			fields := strings.Fields(lines.Text())
			if len(fields) > 9 && strings.HasSuffix(fields[1], mine) && strings.HasSuffix(fields[2], theirs) {
				return fields[9]
			}
		}
	}
	return ""
}

// holds reports whether a process has a file open.
func holds(pid int, file string) bool {
	dir := fmt.Sprintf("/proc/%d/fd/", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, e := range entries {
		if to, err := os.Readlink(dir + e.Name()); err == nil && to == file {
			return true
		}
	}
	return false
}
