package office

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"qstream/mail"
	"qstream/tapper/vault/order"
)

// mostAnswer bounds an answer that is read.
const mostAnswer = 256 << 20

// Client is an officer at an office. Safe for concurrent use once it said hello.
type Client struct {
	name string
	key  ed25519.PrivateKey
	base string
	http *http.Client
	now  func() time.Time

	vault Hello
}

// BySocket is a client of a tapper on this host.
func BySocket(socket, name string, key ed25519.PrivateKey, now func() time.Time) *Client {
	var d net.Dialer
	return &Client{name: name, key: key, base: "http://office", now: now, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", socket) },
	}}}
}

// ByTLS is a client of a tapper elsewhere; cfg has its authority and the
// client's certificate.
func ByTLS(addr string, cfg *tls.Config, name string, key ed25519.PrivateKey, now func() time.Time) *Client {
	return &Client{name: name, key: key, base: "https://" + addr, now: now, http: &http.Client{Transport: &http.Transport{TLSClientConfig: cfg}}}
}

// Hello asks which vault it is. It goes before everything else.
func (c *Client) Hello(ctx context.Context) (Hello, error) {
	c.vault = Hello{} // a second one is about another process, perhaps
	err := c.Ask(ctx, VerbHello, nil, &c.vault)
	return c.vault, err
}

// Signer signs statements for the vault that answered Hello.
func (c *Client) Signer() order.Signer {
	return order.Signer{Vault: c.vault.Vault, Name: c.name, Key: c.key}
}

// Ask sends a request and reads the answer into what answer points to. The error
// may be ErrReach, ErrStranger, ErrNone, ErrInvalid, ErrRefused or ErrStandby.
func (c *Client) Ask(ctx context.Context, verb string, args, answer any) error {
	text, err := json.Marshal(args)
	if err != nil {
		return fmt.Errorf("ask the office: %w", err)
	}
	nonce := make([]byte, nonceSize)
	_, _ = rand.Read(nonce) // never fails
	body, err := json.Marshal(request{
		Format: requestFormat, Vault: c.vault.Vault, Office: c.vault.Office, Officer: c.name, At: c.now().UTC(), Nonce: nonce, Verb: verb, Args: text,
	})
	if err != nil {
		return fmt.Errorf("ask the office: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, waitMost+10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask the office: %w", err)
	}
	req.Header.Set(signatureHeader, sign(c.key, body))
	res, err := c.http.Do(req)
	if err != nil {
		if u := (*url.Error)(nil); errors.As(err, &u) {
			err = u.Err // the address in it is made up for the socket
		}
		return fmt.Errorf("%w: %w", ErrReach, err)
	}
	defer res.Body.Close()
	out, err := io.ReadAll(io.LimitReader(res.Body, mostAnswer))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	switch res.StatusCode {
	case http.StatusOK:
		if err := json.Unmarshal(out, answer); err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
		return nil
	case http.StatusNotFound:
		return ErrStranger
	}
	var r refusal
	if err := json.Unmarshal(out, &r); err != nil || r.Code == "" {
		return fmt.Errorf("%w: %s", ErrRefused, res.Status)
	}
	r.Text = mail.Printable(r.Text)
	return r.err()
}

// Say sends a statement.
func (c *Client) Say(ctx context.Context, s order.Signed) (SayAnswer, error) {
	var done SayAnswer
	err := c.Ask(ctx, VerbSay, s, &done)
	return done, err
}

// Close lets connections go.
func (c *Client) Close() { c.http.CloseIdleConnections() }
