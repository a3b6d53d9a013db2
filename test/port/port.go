// Package port finds ports of loopback for the servers that tests start.
//
// Guarantee: no two callers get the same port while both of their processes
// live, and no connection that a client opens gets it: ports are taken from
// below those that systems hand out for outgoing connections.
package port

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// Linux hands out from 32768 on, others from 49152 on.
const (
	first = 12000
	last  = 32767
)

// claims keeps every port that this process was given from others, by a UDP
// socket of the same number: the kernel gives it back with the process.
var claims struct {
	mu   sync.Mutex
	held []net.PacketConn
}

// Free is a port of 127.0.0.1 on which nobody listens by TCP.
func Free() (int, error) {
	for range 1000 {
		p := first + rand.IntN(last-first+1)
		if claim(p) {
			return p, nil
		}
	}
	return 0, errors.New("found no free port of loopback after 1000 tries")
}

func claim(p int) bool {
	addr := fmt.Sprintf("127.0.0.1:%d", p)
	held, err := net.ListenPacket("udp", addr)
	if err != nil {
		return false
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		held.Close()
		return false
	}
	l.Close()
	claims.mu.Lock()
	defer claims.mu.Unlock()
	claims.held = append(claims.held, held)
	return true
}

// FreeAddr is 127.0.0.1 with a Free port, as host:port.
func FreeAddr() (string, error) {
	p, err := Free()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("127.0.0.1:%d", p), nil
}
