package port

import (
	"net"
	"testing"
)

func TestFree(t *testing.T) {
	seen := map[string]bool{}
	for range 200 {
		addr, err := FreeAddr()
		if err != nil {
			t.Fatal(err)
		}
		if seen[addr] {
			t.Fatalf("%s came twice", addr)
		}
		seen[addr] = true
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatalf("can't listen on what is free: %v", err)
		}
		l.Close()
	}
}

func TestClaimed(t *testing.T) {
	p, err := Free()
	if err != nil {
		t.Fatal(err)
	}
	if claim(p) {
		t.Errorf("port %d was given twice", p)
	}
}
