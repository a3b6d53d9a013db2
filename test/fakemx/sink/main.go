// Command sink is a fake mail server as a program: it accepts mail, writes one
// JSON line per message to standard output, and answers as its rules say.
//
//	sink -listen 127.0.0.1:2526 -rule 'RCPT TO:<tmp@=451 4.7.1 try later' -hold 30s
package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"qstream/test/fakemx"
)

// line is what is printed of a message.
type line struct {
	Time     time.Time `json:"time"`
	ID       string    `json:"id,omitempty"`
	From     string    `json:"from"`
	Rcpts    []string  `json:"rcpts"`
	Size     int       `json:"size"`
	SHA256   string    `json:"sha256"`
	Accepted bool      `json:"accepted"`
	TLS      bool      `json:"tls"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "sink:", err)
		os.Exit(1)
	}
}

func run() error {
	cfg := fakemx.Config{DigestOnly: true}
	flag.StringVar(&cfg.Addr, "listen", "127.0.0.1:0", "host:port, or a path for a Unix socket")
	flag.BoolVar(&cfg.LMTP, "lmtp", false, "speak LMTP")
	flag.BoolVar(&cfg.TLS, "tls", false, "offer STARTTLS")
	flag.StringVar(&cfg.IDHeader, "id-header", "", "header field that names a message (default X-Test-Id)")
	hold := flag.Duration("hold", 0, "wait before the reply to the final dot")
	flag.Func("rule", "`LINE=REPLY`: answer client lines that begin with LINE; may be repeated", func(v string) error {
		prefix, reply, ok := strings.Cut(v, "=")
		if !ok {
			return fmt.Errorf("no = in %q", v)
		}
		cfg.Rules = append(cfg.Rules, fakemx.Rule{Line: prefix, Reply: reply})
		return nil
	})
	flag.Parse()
	if *hold > 0 {
		cfg.Rules = append(cfg.Rules, fakemx.Rule{Line: ".", Delay: *hold})
	}
	var mu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	cfg.OnMessage = func(m fakemx.Message) {
		mu.Lock()
		defer mu.Unlock()
		_ = out.Encode(line{
			Time: m.Time, ID: m.ID, From: m.From, Rcpts: m.Rcpts, Size: m.Size,
			SHA256: hex.EncodeToString(m.SHA256[:]), Accepted: m.Accepted, TLS: m.TLS,
		})
	}
	s, err := fakemx.Start(cfg)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "listening on", s.Addr())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	<-ctx.Done()
	s.Close()
	return nil
}
