package gate

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// proxied takes the addresses of c from the PROXY header that its balancer
// sends first.
func (g *Gate) proxied(nc net.Conn, c *Client) error {
	if err := nc.SetReadDeadline(time.Now().Add(g.cfg.Wait)); err != nil {
		return err
	}
	from, to, err := readProxy(nc)
	if err != nil {
		return err
	}
	if from.IsValid() {
		c.Addr, c.Local = from, to
	}
	return nc.SetReadDeadline(time.Time{})
}

// signature begins a header of version 2; version 1 is never shorter.
const signature = "\r\n\r\n\x00\r\nQUIT\n"

// Longest headers.
const (
	maxProxy1 = 107 // with CRLF, as its description says
	maxProxy2 = 2048
)

// readProxy reads a header of the PROXY protocol and not an octet more. The
// addresses are invalid if the balancer speaks for itself (LOCAL, UNKNOWN, a
// family other than IP).
func readProxy(r io.Reader) (from, to netip.AddrPort, err error) {
	head := make([]byte, len(signature), maxProxy1)
	if _, err := io.ReadFull(r, head); err != nil {
		return from, to, fmt.Errorf("read proxy header: %w", err)
	}
	if string(head) == signature {
		return readProxy2(r)
	}
	if !bytes.HasPrefix(head, []byte("PROXY ")) {
		return from, to, errors.New("read proxy header: there is none")
	}
	for !bytes.HasSuffix(head, []byte("\n")) {
		if len(head) == maxProxy1 {
			return from, to, errors.New("read proxy header: too long")
		}
		head = head[:len(head)+1]
		if _, err := io.ReadFull(r, head[len(head)-1:]); err != nil {
			return from, to, fmt.Errorf("read proxy header: %w", err)
		}
	}
	return parseProxy1(string(head))
}

func parseProxy1(line string) (from, to netip.AddrPort, err error) {
	line, ok := strings.CutSuffix(line, "\r\n")
	words := strings.Split(line, " ")
	if ok && len(words) >= 2 && words[1] == "UNKNOWN" {
		return from, to, nil
	}
	if !ok || len(words) != 6 || words[1] != "TCP4" && words[1] != "TCP6" {
		return from, to, errors.New("read proxy header: malformed")
	}
	from, err = proxyAddr(words[2], words[4], words[1] == "TCP4")
	if err == nil {
		to, err = proxyAddr(words[3], words[5], words[1] == "TCP4")
	}
	if err != nil {
		return netip.AddrPort{}, netip.AddrPort{}, fmt.Errorf("read proxy header: %w", err)
	}
	return from, to, nil
}

func proxyAddr(ip, port string, v4 bool) (netip.AddrPort, error) {
	a, err := netip.ParseAddr(ip)
	if err != nil || a.Zone() != "" || a.Is4() != v4 {
		return netip.AddrPort{}, errors.New("malformed address")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, errors.New("malformed port")
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), nil
}

func readProxy2(r io.Reader) (from, to netip.AddrPort, err error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return from, to, fmt.Errorf("read proxy header: %w", err)
	}
	size := int(binary.BigEndian.Uint16(head[2:]))
	if head[0]>>4 != 2 || head[0]&15 > 1 || size > maxProxy2 {
		return from, to, errors.New("read proxy header: version, command or length that nobody knows")
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return from, to, fmt.Errorf("read proxy header: %w", err)
	}
	width := map[byte]int{0x11: 4, 0x21: 16}[head[1]] // TCP over IPv4, over IPv6
	if head[0]&15 == 0 || width == 0 {
		return from, to, nil
	}
	if size < 2*width+4 {
		return from, to, errors.New("read proxy header: too short for its addresses")
	}
	at := func(i int) netip.AddrPort {
		a, _ := netip.AddrFromSlice(body[i*width : (i+1)*width]) // 4 or 16 octets
		return netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(body[2*width+2*i:]))
	}
	return at(0), at(1), nil
}
