package sealed

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// keySize is the length of a key and of its file.
const keySize = 32

const keyPrefix = "key."

// printSize is how much of a key's SHA-256 is its fingerprint.
const printSize = 8

// Print is the fingerprint of a key, in hexadecimal digits: what sha256sum says of
// its file begins with it. Empty: there is none of that number.
func (k *Keys) Print(number uint32) string { return hex.EncodeToString(k.print(number)) }

func (k *Keys) print(number uint32) []byte {
	key, ok := k.key(number)
	if !ok {
		return nil
	}
	sum := sha256.Sum256(key[:])
	return sum[:printSize]
}

// Keys are the keys of a vault by number, from 1 without a gap. All of them
// open; the newest seals. None changes, but for one that others have another of and
// that was put in its place; Reload adds new ones. Safe for concurrent use.
type Keys struct {
	dir string // empty: none

	mu     sync.RWMutex
	newest uint32
	keys   map[uint32][keySize]byte
}

// NewKeys makes keys of what is given by number.
func NewKeys(keys map[uint32][keySize]byte) (*Keys, error) {
	k := &Keys{newest: uint32(len(keys)), keys: map[uint32][keySize]byte{}}
	if len(keys) == 0 {
		return nil, errors.New("no key")
	}
	for n := range k.newest {
		key, ok := keys[n+1]
		if !ok {
			return nil, fmt.Errorf("key %d is missing: old keys stay beside new ones; copy it from the folder of another tapper", n+1)
		}
		k.keys[n+1] = key
	}
	return k, nil
}

// Numbers are the numbers of the keys, ascending.
func (k *Keys) Numbers() []uint32 {
	var ns []uint32
	for n := range k.top() {
		ns = append(ns, n+1)
	}
	return ns
}

// top is the number of the newest.
func (k *Keys) top() uint32 {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.newest
}

func (k *Keys) key(number uint32) (key [keySize]byte, ok bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	key, ok = k.keys[number]
	return key, ok
}

// Reload reads the folder of the keys again, for new ones.
func (k *Keys) Reload() error { return k.reload(0, nil) }

// reload is Reload, and takes another key of a number if it has that print.
func (k *Keys) reload(number uint32, print []byte) error {
	if k.dir == "" {
		return nil
	}
	now, err := ReadKeys(k.dir)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for n, key := range k.keys {
		if now.keys[n] != key && (n != number || !bytes.Equal(now.print(n), print)) {
			return fmt.Errorf("%s: key %d is another one than before", k.dir, n)
		}
	}
	k.newest, k.keys = now.newest, now.keys
	return nil
}

// ReadKeys reads the keys of a vault's folder: the files key.1, key.2... of 32
// bytes each, which nobody but their owner may read.
func ReadKeys(dir string) (*Keys, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read the vault: %w", err)
	}
	keys := map[uint32][keySize]byte{}
	for _, f := range files {
		n, ok := keyNumber(f.Name())
		if !ok {
			continue
		}
		key, err := readKey(filepath.Join(dir, f.Name()))
		if err != nil {
			return nil, err
		}
		keys[n] = key
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s has no key: it is no vault's folder; make one by: qstream tap init, or copy that of another tapper", dir)
	}
	k, err := NewKeys(keys)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	k.dir = dir
	return k, nil
}

// AddKey makes a new key in a vault's folder, the first or the next, which
// seals from the next start of a tapper on. A tapper that lacks it then stands
// by.
func AddKey(dir string) (number uint32, err error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return 0, fmt.Errorf("read the vault: %w", err)
	}
	for _, f := range files {
		if n, ok := keyNumber(f.Name()); ok {
			number = max(number, n)
		}
	}
	number++
	var key [keySize]byte
	_, _ = rand.Read(key[:]) // never fails
	name := filepath.Join(dir, keyPrefix+strconv.FormatUint(uint64(number), 10))
	if err := writeKey(name, key[:]); err != nil {
		return 0, fmt.Errorf("write the vault's key: %w", err)
	}
	return number, nil
}

// writeKey makes the file whole or not at all, and never over another.
func writeKey(name string, key []byte) error {
	partial := name + ".partial"
	f, err := os.OpenFile(partial, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(partial) }()
	_, err = f.Write(key)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(partial, name); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func keyNumber(name string) (uint32, bool) {
	digits, ok := strings.CutPrefix(name, keyPrefix)
	n, err := strconv.ParseUint(digits, 10, 32)
	return uint32(n), ok && err == nil && n > 0 && digits[0] != '0'
}

func readKey(name string) (key [keySize]byte, err error) {
	info, err := os.Lstat(name)
	if err != nil {
		return key, fmt.Errorf("read the vault's key: %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return key, fmt.Errorf("%s: a key is a file that only its owner may read (mode 0600)", name)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return key, fmt.Errorf("read the vault's key: %w", err)
	}
	if len(text) != keySize {
		return key, fmt.Errorf("%s: a key has %d bytes, this one %d", name, keySize, len(text))
	}
	return [keySize]byte(text), nil
}
