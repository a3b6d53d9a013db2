// Package bundle makes evidence of messages: their content, envelope and
// session, every event about them with its place in the log, and hashes of all
// of it under one signature, in a tar archive that anybody can open and that
// Verify checks without a broker.
//
// Guarantee: a bundle of which any byte differs from what was written, or
// that ends early or late, does not verify.
// Guarantee: Verify needs the file alone, and some hundred bytes of memory for
// each message, recipient and event.
//
// Who holds the key can sign anything: a bundle proves what its maker found in
// the log, and that nobody has changed it since. A verifier who wasn't told
// the maker's key must compare its fingerprint with one that he was told. What
// shows that a record stood in the log before anybody asked for a bundle are
// the checkpoints, which somebody else may have signed: records too new for
// one, or of a site without a chain of custody, are counted as unproved.
//
// The archive holds, in this order:
//
//	README.txt             what this is, for who opens it
//	received/ID.record     the value of the received record, as it stands on the topic
//	content/ID.eml         the content as it was accepted
//	messages.jsonl         a line each: replay.Info and the record's place
//	events.jsonl           a line for each event, in the log's order: place and value
//	checkpoints.jsonl      a line each: the signed checkpoints that cover these records
//	proofs.jsonl           a line for each record that one covers: where it stood in what was signed
//	manifest.json          names, sizes and SHA-256 of all these, and who made it
//	manifest.sig           Ed25519 over manifest.json, 64 bytes
package bundle

import (
	"archive/tar"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"time"

	"qstream/replay/custody"
)

// Format is the format's name and version.
const Format = "qstream-bundle-1"

// Names of a bundle's files.
const (
	readmeName   = "README.txt"
	messagesName = "messages.jsonl"
	eventsName   = "events.jsonl"
	proofsName   = "proofs.jsonl"
	manifestName = "manifest.json"
	signName     = "manifest.sig"

	checkpointsName = "checkpoints.jsonl"
)

const readme = `Evidence of messages, made by qstream.

received/ID.record  the record of the message as it stands in the log (protobuf qstream.v1.Received)
content/ID.eml      its content as it was accepted
messages.jsonl      envelope, session and place in the log of each message
events.jsonl        what happened to them, with each event's place in the log
checkpoints.jsonl   signatures over the log, if it was under a chain of custody
proofs.jsonl        how each record follows from them (RFC 6962 2.1.1)
manifest.json       sizes and SHA-256 of these files, who made them, when, and the public key
manifest.sig        Ed25519 signature of manifest.json

qstream verify FILE checks all of it. By hand: sha256sum the files, compare with
manifest.json, and check the signature with the key that the maker told you.
`

// Manifest says what is in a bundle.
type Manifest struct {
	Format   string    `json:"format"`
	Made     time.Time `json:"made"`
	Actor    string    `json:"actor"`
	Reason   string    `json:"reason"`
	What     any       `json:"selection"`
	Key      []byte    `json:"key"` // Ed25519, public
	Messages int       `json:"messages"`
	Events   int       `json:"events"`
	Proved   int       `json:"proved"`   // records that a checkpoint covers
	Unproved int       `json:"unproved"` // and those that none does
	Files    []File    `json:"files"`
}

// File is a file of a bundle.
type File struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Placed is where a record stands, and its value.
type Placed struct {
	Topic     string    `json:"topic"`
	Partition int32     `json:"partition"`
	Offset    int64     `json:"offset"`
	Appended  time.Time `json:"appended"`
	Value     []byte    `json:"value"` // protobuf
}

// header is a file's entry: the same for the same name and size, so that the
// archive is a function of its contents.
func header(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o444, ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
}

// Fingerprint is a public key's SHA-256, by which people compare keys.
func Fingerprint(key ed25519.PublicKey) string { return custody.Fingerprint(key) }

// ReadPrivateKey reads an Ed25519 key from a PEM file (PKCS #8), as
// "openssl genpkey -algorithm ed25519" makes it.
func ReadPrivateKey(file string) (ed25519.PrivateKey, error) {
	key, err := readPEM(file, "an Ed25519 private key (openssl genpkey -algorithm ed25519)", func(der []byte) (any, error) { return x509.ParsePKCS8PrivateKey(der) })
	if err != nil {
		return nil, err
	}
	k, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s: no Ed25519 private key", file)
	}
	return k, nil
}

// ReadPublicKey reads an Ed25519 key from a PEM file, as "openssl pkey
// -pubout" makes it.
func ReadPublicKey(file string) (ed25519.PublicKey, error) {
	key, err := readPEM(file, "a public key (openssl pkey -pubout)", func(der []byte) (any, error) { return x509.ParsePKIXPublicKey(der) })
	if err != nil {
		return nil, err
	}
	k, ok := key.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%s: no Ed25519 public key", file)
	}
	return k, nil
}

func readPEM(file, kind string, parse func([]byte) (any, error)) (any, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s: not PEM", file)
	}
	key, err := parse(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: want %s, not %q", file, kind, block.Type)
	}
	return key, nil
}
