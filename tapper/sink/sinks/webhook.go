package sinks

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"qstream/tapper/sign"
	"qstream/tapper/sink"
)

// webhookSink posts a JSON object for each copy: its Info, and "content", the
// message as it is delivered (or the age file) in base64. It is signed as
// Standard Webhooks say; the webhook-id is the copy's ID.
type webhookSink struct {
	poster
	url, secrets string
	now          func() time.Time
}

func newWebhook(spec sink.Spec, d sink.Deps) (*webhookSink, error) {
	cfg, err := tlsConfig(spec)
	if err != nil {
		return nil, err
	}
	return &webhookSink{newPoster(cfg), spec.URL, spec.Option("secret_file"), d.Now}, nil
}

func (s *webhookSink) Put(ctx context.Context, c sink.Copy) error {
	if err := c.Check(); err != nil {
		return err
	}
	secrets, err := lines(s.secrets)
	if err != nil {
		return err
	}
	keys, err := sign.ParseKeys(secrets)
	if err != nil {
		return err
	}
	open, size, err := hookBody(&c)
	if err != nil {
		return err
	}
	if open, err = kept(ctx, open, size); err != nil {
		return err
	}
	// The id is what is signed with a dot behind it.
	signer := sign.NewSigner(keys, strings.ReplaceAll(c.ID, ".", "_"), s.now())
	if err := digest(ctx, open, size, signer); err != nil {
		return err
	}
	body, err := open(ctx)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, body)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	r.ContentLength = size
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "qstream")
	signer.Headers(r.Header)
	return s.do(r, nil)
}

func (s *webhookSink) Close() error {
	s.close()
	return nil
}

// hookBody is the JSON of a copy. Content streams into the object that Info
// left open.
func hookBody(c *sink.Copy) (opener, int64, error) {
	line, err := c.JSON()
	if err != nil {
		return nil, 0, err
	}
	if c.Open == nil {
		return fixed(line), int64(len(line)), nil
	}
	const before, after = `,"content":"`, `"}`
	head := string(line[:len(line)-1]) + before
	return func(ctx context.Context) (io.ReadCloser, error) {
		content, err := c.Open(ctx)
		if err != nil {
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{io.MultiReader(strings.NewReader(head), &encoder{r: content}, strings.NewReader(after)), content}, nil
	}, int64(len(head)+len(after)) + encodedSize(c.Size), nil
}
