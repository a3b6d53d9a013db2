package main

import (
	"testing"

	"qstream/directory"
)

// TestSite checks that the directory is taken, and that every recipient of the
// load and every DSN has a route and a queue of its tenant.
func TestSite(t *testing.T) {
	docs, err := directory.Parse(directory.File{Name: "chaos", Data: []byte(documents(25, 26, 27))})
	if err != nil {
		t.Fatal(err)
	}
	s, err := directory.Build(docs)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for n := range 400 {
		seen[recipient(n)] = true
	}
	for _, want := range []string{gone, later, slow, brief} {
		if !seen[want] {
			t.Errorf("nobody writes to %s", want)
		}
	}
	seen[reversePath("load-7-a_B-c")] = true
	for to := range seen {
		d := s.Decide(directory.Question{Recipient: to})
		if d.Route == "" || d.Queue == nil || d.Queue.Concurrency != concurrency || d.Tenant == "default" {
			t.Errorf("%s: %+v", to, d)
		}
	}
}

func TestReturned(t *testing.T) {
	for address, want := range map[string]string{
		reversePath("load-12-Ab_-9"):     "load-12-Ab_-9",
		"bounce+x@other.example":         "",
		"postmaster@client.example":      "",
		"bounce+load-1-a@client.example": "load-1-a",
	} {
		if got, ok := returned(address); ok != (want != "") || ok && got != want {
			t.Errorf("%s: %q %v, want %q", address, got, ok, want)
		}
	}
	if n := number("load-12-Ab_-9"); n != 12 {
		t.Errorf("number %d, want 12", n)
	}
}
