package ingest

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificate is a certificate from files that may be renewed while the edge
// runs. It is safe for concurrent use.
type certificate struct {
	cert, key string
	log       *slog.Logger
	now       func() time.Time

	mu      sync.Mutex
	loaded  *tls.Certificate
	of      time.Time // when the loaded file was written
	checked time.Time
}

// renewal is how often the files are looked at, at most.
const renewal = 30 * time.Second

// load reads the files; a broken pair changes nothing.
func (c *certificate) load() error {
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return fmt.Errorf("ingest: load certificate: %w", err)
	}
	c.loaded = &pair
	return nil
}

// get is the newest certificate that could be loaded.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.now(); now.Sub(c.checked).Abs() >= renewal {
		c.checked = now
		c.renew()
	}
	return c.loaded, nil
}

func (c *certificate) renew() {
	written := c.written()
	if written.Equal(c.of) {
		return
	}
	if err := c.load(); err != nil {
		c.log.Error("certificate not renewed", "stage", "ingest", "err", err)
		return
	}
	c.of = written
}

// written is when the newer of the files was written; zero if one is missing.
func (c *certificate) written() time.Time {
	var newest time.Time
	for _, name := range []string{c.cert, c.key} {
		info, err := os.Stat(name)
		if err != nil {
			return time.Time{}
		}
		if info.ModTime().After(newest) {
			newest = info.ModTime()
		}
	}
	return newest
}
