package listener

import "golang.org/x/sys/unix"

// TCP's states in which the peer sends no more (tcp_states.h).
const (
	tcpClose   = 7
	tcpLastAck = 9 // CLOSE_WAIT is between the two
)

// shut reports that the peer has closed its side, though there may be something
// to read.
func shut(fd uintptr) bool {
	info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	return err == nil && info.State >= tcpClose && info.State <= tcpLastAck
}
