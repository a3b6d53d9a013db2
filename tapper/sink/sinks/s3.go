package sinks

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"qstream/tapper/sink"
)

// s3Sink puts copies into a bucket of an S3-compatible store: the content as
// PREFIX/SUBSCRIPTION/2026/03/01/ID.eml (sealed: ID.age), then the Info as
// ID.json beside it, whose presence says that the copy is whole. Keys follow
// from the copy, so that a repetition replaces what is there by the same. The
// store checks each object's SHA-256, which goes ahead of it, and says its ETag. Requests name the
// bucket in their path.
type s3Sink struct {
	poster
	spec sink.Spec
	now  func() time.Time
}

func newS3(spec sink.Spec, d sink.Deps) (*s3Sink, error) {
	cfg, err := tlsConfig(spec)
	if err != nil {
		return nil, err
	}
	return &s3Sink{newPoster(cfg), spec, d.Now}, nil
}

func (s *s3Sink) Put(ctx context.Context, c sink.Copy) error {
	if err := c.Check(); err != nil {
		return err
	}
	info, err := c.JSON()
	if err != nil {
		return err
	}
	key := s.key(&c)
	if c.Open != nil {
		typ, end := "message/rfc822", ".eml"
		if c.Sealed {
			typ, end = "application/octet-stream", ".age"
		}
		if err := s.object(ctx, key+end, typ, c.Open, c.Size); err != nil {
			return fmt.Errorf("put %s%s: %w", key, end, err)
		}
	}
	if err := s.object(ctx, key+".json", "application/json", fixed(info), int64(len(info))); err != nil {
		return fmt.Errorf("put %s.json: %w", key, err)
	}
	return nil
}

func (s *s3Sink) key(c *sink.Copy) string {
	day := "sealed"
	if !c.Accepted.IsZero() {
		day = c.Accepted.UTC().Format("2006/01/02")
	}
	key := c.Subscription + "/" + day + "/" + c.ID
	if s.spec.Prefix != "" {
		key = s.spec.Prefix + "/" + key
	}
	return key
}

func (s *s3Sink) object(ctx context.Context, key, typ string, open opener, size int64) error {
	credentials, err := s.credentials()
	if err != nil {
		return err
	}
	if open, err = kept(ctx, open, size); err != nil {
		return err
	}
	sum := sha256.New()
	if err := digest(ctx, open, size, sum); err != nil {
		return err
	}
	body, err := open(ctx)
	if err != nil {
		return err
	}
	url := strings.TrimSuffix(s.spec.URL, "/") + "/" + s.spec.Bucket + "/" + key
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, url, body)
	if err != nil {
		return errors.Join(err, body.Close())
	}
	r.ContentLength = size
	if size == 0 {
		_ = body.Close()
		r.Body = http.NoBody
	}
	hash := hex.EncodeToString(sum.Sum(nil))
	r.Header.Set("Content-Type", typ)
	r.Header.Set("X-Amz-Content-Sha256", hash)
	if size > small {
		r.Header.Set("Expect", "100-continue") // a refusal is heard, instead of a connection that breaks
	}
	// What is signed is sent as it is: keys hold nothing to be escaped. A signer
	// keeps what it made of a secret key by the access key alone, for a day: one
	// that is kept would go on with a secret that was changed.
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	if err := signer.SignHTTP(ctx, credentials, r, hash, "s3", s.spec.Option("region"), s.now()); err != nil {
		return errors.Join(fmt.Errorf("sign: %w", err), body.Close())
	}
	return s.do(r, stored)
}

// stored is whether an answer is that of a store that has the object: each names
// its tag. What else says 200, such as a page to log in at, has nothing.
func stored(h http.Header) error {
	if h.Get("ETag") == "" {
		return errors.New("an answer without ETag: it is no store's")
	}
	return nil
}

// credentials are the lines of the key file: access key, secret key and, of
// temporary ones, session token. They are read each time, so that they can be
// changed.
func (s *s3Sink) credentials() (aws.Credentials, error) {
	l, err := lines(s.spec.Option("key_file"))
	if err != nil {
		return aws.Credentials{}, err
	}
	if len(l) < 2 || len(l) > 3 {
		return aws.Credentials{}, errors.New("key_file: want a line with the access key and one with the secret key")
	}
	c := aws.Credentials{AccessKeyID: l[0], SecretAccessKey: l[1]}
	if len(l) == 3 {
		c.SessionToken = l[2]
	}
	return c, nil
}

func (s *s3Sink) Close() error {
	s.close()
	return nil
}
