package smtpd

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSilentClientsAreLetGo(t *testing.T) {
	addr, _, _ := serve(t, Config{CommandTimeout: 50 * time.Millisecond, DataTimeout: 50 * time.Millisecond})
	begin := []string{"< 220", "> EHLO x", "< 250", "> MAIL FROM:<a@x>", "< 250", "> RCPT TO:<b@x>", "< 250"}
	for name, script := range map[string][]string{
		"at once":         {"< 220", "< 421 4.4.2", "< EOF"},
		"amid a command":  {"< 220", ">> NOO", "< 421 4.4.2", "< EOF"},
		"amid content":    append(begin[:7:7], "> DATA", "< 354", ">> hal", "< 421 4.4.2", "< EOF"),
		"amid a chunk":    append(begin[:7:7], ">> BDAT 9\r\nhal", "< 421 4.4.2", "< EOF"),
		"between chunks":  append(begin[:7:7], ">> BDAT 1\r\nx", "< 250", "< 421 4.4.2", "< EOF"),
		"amid a bad BDAT": {"< 220", ">> BDAT 9\r\nhal", "< 503", "< 421 4.4.2", "< EOF"},
	} {
		t.Run(name, func(t *testing.T) { connect(t, addr).play(script...) })
	}
}

// A client that sends an octet now and then keeps every read short, and falls
// below the rate all the same.
func TestDrippingClientsAreLetGo(t *testing.T) {
	addr, k, _ := serve(t, Config{DataTimeout: time.Second, MinRate: 1000, RateGrace: 100 * time.Millisecond})
	c := connect(t, addr)
	c.play("< 220", "> EHLO x", "< 250", "> MAIL FROM:<a@x>", "< 250", "> RCPT TO:<b@x>", "< 250", "> DATA", "< 354")
	started := time.Now()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for time.Since(started) < 10*time.Second {
			if _, err := c.Write([]byte("x")); err != nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	c.want("421 4.4.2")
	c.Close()
	<-gone
	if took := time.Since(started); took > 5*time.Second || len(k.all()) > 0 {
		t.Errorf("let go after %v", took)
	}
}

// So does one that begins a message in chunks and then only says NOOP.
func TestIdlingBetweenChunksIsLetGo(t *testing.T) {
	addr, k, _ := serve(t, Config{DataTimeout: time.Second, MinRate: 10_000, RateGrace: 100 * time.Millisecond})
	c := connect(t, addr)
	c.play("< 220", "> EHLO x", "< 250", "> MAIL FROM:<a@x>", "< 250", "> RCPT TO:<b@x>", "< 250", ">> BDAT 1\r\na", "< 250")
	started := time.Now()
	for time.Since(started) < 5*time.Second {
		time.Sleep(20 * time.Millisecond)
		if _, err := c.Write([]byte("NOOP\r\n")); err != nil {
			t.Fatal(err)
		}
		reply, err := c.reply()
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(reply, "421 4.4.2") {
			if len(k.all()) > 0 {
				t.Error("taken")
			}
			return
		}
	}
	t.Error("still there")
}

// A message that ends with its connection is not taken.
func TestHalfMessagesAreNotTaken(t *testing.T) {
	addr, k, stop := serve(t, Config{})
	for _, from := range []string{"a@x", "deaf@x", "unread@x"} {
		for _, part := range []string{"DATA\r\nhello\r\n", "DATA\r\nhello\r\n.", "DATA\r\nhello\r\n.\r", "BDAT 5 LAST\r\nhell", "BDAT 5\r\nhello", "BDAT 5 LAST\r\n"} {
			c := connect(t, addr)
			c.play("< 220", "> EHLO x", "< 250", "> MAIL FROM:<"+from+">", "< 250", "> RCPT TO:<b@x>", "< 250")
			c.send(part)
			_ = c.Conn.(*net.TCPConn).CloseWrite()
			for {
				r, err := c.reply()
				if err != nil {
					break
				}
				if strings.HasPrefix(r, "250 2.0.0 ok") {
					t.Errorf("%s %q: %s", from, part, r)
				}
			}
			c.Close()
		}
	}
	stop()
	if len(k.all()) > 0 {
		t.Errorf("took %+v", k.all())
	}
}

// The last reply reaches a client that is sending more than is read.
func TestLastReplyArrives(t *testing.T) {
	addr, _, _ := serve(t, Config{})
	for range 20 {
		c := connect(t, addr)
		c.want("220")
		c.send("GET / HTTP/1.1\r\n" + strings.Repeat("Header: value\r\n", 10_000))
		c.play("< 500 5.5.2", "< EOF")
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	addr, _, _ := serve(t, Config{MaxConnections: 2})
	a, b := connect(t, addr), connect(t, addr)
	a.play("< 220")
	b.play("< 220")
	connect(t, addr).play("< 421 4.3.2", "< EOF")
	a.play("> QUIT", "< 221", "< EOF")
	for range 100 { // the server forgets a connection a moment after its end
		c := connect(t, addr)
		if r, err := c.reply(); err == nil && strings.HasPrefix(r, "220") {
			return
		}
		c.Close()
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("the place was not given back")
}

func TestShutdownLetsTransactionsFinish(t *testing.T) {
	addr, k, stop := serve(t, Config{})
	begin := []string{"< 220", "> EHLO x", "< 250", "> MAIL FROM:<a@x>", "< 250", "> RCPT TO:<b@x>", "< 250"}
	waiting, amid, data, chunks := connect(t, addr), connect(t, addr), connect(t, addr), connect(t, addr)
	waiting.play("< 220")
	amid.play(begin...)
	data.play(append(begin[:7:7], "> DATA", "< 354", "> hello")...)
	chunks.play(append(begin[:7:7], ">> BDAT 7\r\nhello\r\n", "< 250")...)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		stop()
	}()
	waiting.play("< 421 4.3.2", "< EOF")
	amid.play("< 421 4.3.2", "< EOF")
	data.play("> .", "< 250 2.0.0 ok", "< 421 4.3.2", "< EOF")
	chunks.play(">> BDAT 0 LAST\r\n", "< 250 2.0.0 ok", "< 421 4.3.2", "< EOF")
	<-stopped
	if n := len(k.all()); n != 2 {
		t.Errorf("%d taken", n)
	}
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("still listening")
	}
}

func TestShutdownEndsByForce(t *testing.T) {
	addr, k, stop := serve(t, Config{Grace: 50 * time.Millisecond})
	c := connect(t, addr)
	c.play("< 220", "> EHLO x", "< 250", "> MAIL FROM:<a@x>", "< 250", "> RCPT TO:<b@x>", "< 250", "> DATA", "< 354", ">> hel")
	started := time.Now()
	stop()
	if took := time.Since(started); took > 5*time.Second || len(k.all()) > 0 {
		t.Errorf("took %v", took)
	}
}

// certificate makes a certificate for a test.
func certificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"mx.example"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestSTARTTLS(t *testing.T) {
	addr, k, _ := serve(t, Config{TLS: &tls.Config{Certificates: []tls.Certificate{certificate(t)}}})
	c := connect(t, addr)
	c.play("< 220", "> EHLO plain", "< 250 STARTTLS", "> MAIL FROM:<a@x>", "< 250", "> STARTTLS", "< 503", "> RSET", "< 250")
	// What is sent with STARTTLS in one packet must never be obeyed.
	c.send("STARTTLS\r\nMAIL FROM:<evil@x>\r\nRCPT TO:<b@x>\r\n")
	c.want("220 2.0.0")
	s := tls.Client(c.Conn, &tls.Config{InsecureSkipVerify: true}) // our own certificate
	if err := s.Handshake(); err != nil {
		t.Fatal(err)
	}
	c.Conn = s
	c.in.Reset(s)
	c.play("> RCPT TO:<b@x>", "< 503 5.5.1", "> MAIL FROM:<a@x>", "< 503 5.5.1", "> EHLO secret", "< 250 LIMITS",
		"> STARTTLS", "< 503", "> MAIL FROM:<a@x>", "< 250", "> RCPT TO:<b@x>", "< 250", "> DATA", "< 354", "> x", "> .", "< 250", "> QUIT", "< 221", "< EOF")
	if all := k.all(); len(all) != 1 || all[0].from != "a@x" {
		t.Errorf("took %+v", all)
	}
}

func TestBrokenHandshakeEndsIt(t *testing.T) {
	addr, _, _ := serve(t, Config{CommandTimeout: 200 * time.Millisecond, TLS: &tls.Config{Certificates: []tls.Certificate{certificate(t)}}})
	c := connect(t, addr)
	c.play("< 220", "> EHLO x", "< 250", "> STARTTLS", "< 220")
	started := time.Now()
	_, _ = c.in.ReadString('\n') // the handshake never comes
	if time.Since(started) > 5*time.Second {
		t.Error("waited for a handshake")
	}
}

// A client that pipelines without reading its replies is not waited for.
func TestDeafClientsAreLetGo(t *testing.T) {
	addr, _, stop := serve(t, Config{WriteTimeout: 100 * time.Millisecond})
	c := connect(t, addr)
	block := []byte(strings.Repeat("HELP\r\n", 10_000))
	started := time.Now()
	for time.Since(started) < 10*time.Second {
		if _, err := c.Write(block); err != nil {
			stop()
			return
		}
	}
	t.Error("still served")
}

func TestRepliesGoOutTogether(t *testing.T) {
	addr, _, _ := serve(t, Config{})
	c := connect(t, addr)
	c.play("< 220", "> EHLO x", "< 250")
	c.send("MAIL FROM:<a@x>\r\n" + strings.Repeat("RCPT TO:<b@x>\r\n", 100) + "DATA\r\n")
	buf := make([]byte, 64<<10)
	total := 0
	for reads := 1; ; reads++ {
		n, err := c.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		if total += strings.Count(string(buf[:n]), "\r\n"); total == 102 {
			if reads > 3 {
				t.Errorf("102 replies in %d packets", reads)
			}
			return
		}
	}
}

func TestNewChecks(t *testing.T) {
	for i, cfg := range []Config{{}, {Hostname: "x"}} {
		if _, err := New(cfg, nil, nil, nil); err == nil {
			t.Error(fmt.Sprint("configuration ", i, " taken"))
		}
	}
}
