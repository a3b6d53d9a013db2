package order

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Officer is who may ask for orders, agree to those of others and look at them.
type Officer struct {
	Name string            `json:"name"`
	Key  ed25519.PublicKey `json:"key"`
}

// Check refuses a name or a key that can't be.
func (o Officer) Check() error {
	if !validName(o.Name) {
		return fmt.Errorf("officer: want a name of 1 to 40 of a-z, 0-9, -")
	}
	if len(o.Key) != ed25519.PublicKeySize {
		return fmt.Errorf("officer %s: no Ed25519 public key", o.Name)
	}
	return nil
}

// Fingerprint is the SHA-256 of the officer's key, by which people compare keys.
func (o Officer) Fingerprint() string { return fmt.Sprintf("%x", sha256.Sum256(o.Key)) }

// Officers are those of a vault at one time.
type Officers map[string]Officer

// List is in the order of names.
func (os Officers) List() []Officer {
	return slices.SortedFunc(maps.Values(os), func(a, b Officer) int { return strings.Compare(a.Name, b.Name) })
}

// with checks and adds one more; no two have a name or a key together.
func (os Officers) with(o Officer) (Officers, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	for _, other := range os {
		if other.Name == o.Name {
			return nil, fmt.Errorf("officer %s: there is one of that name", o.Name)
		}
		if other.Key.Equal(o.Key) {
			return nil, fmt.Errorf("officer %s has the key of %s; each needs his own", o.Name, other.Name)
		}
	}
	more := maps.Clone(os)
	more[o.Name] = o
	return more, nil
}

// without takes one away; two remain, or nothing could be agreed on any more.
func (os Officers) without(name string) (Officers, error) {
	if _, ok := os[name]; !ok {
		return nil, fmt.Errorf("no officer %s", name)
	}
	if len(os) <= 2 {
		return nil, errors.New("two officers must remain; add another first")
	}
	fewer := maps.Clone(os)
	delete(fewer, name)
	return fewer, nil
}

// Founding is how a vault began: its first officers. It is a file of the vault's
// folder, and what every later change of officers goes back to.
type Founding struct {
	Format   string    `json:"format"`
	Officers []Officer `json:"officers"` // two at least, by name
	Salt     []byte    `json:"salt"`     // random: no two vaults are the same
}

const foundingFormat = "qstream-vault-1"

// Found makes a vault's beginning.
func Found(first ...Officer) (Founding, error) {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails
	f := Founding{Format: foundingFormat, Officers: slices.SortedFunc(slices.Values(first), func(a, b Officer) int { return strings.Compare(a.Name, b.Name) }), Salt: salt}
	_, err := f.check()
	return f, err
}

// ReadFounding reads what Write wrote.
func ReadFounding(text []byte) (Founding, error) {
	var f Founding
	if err := json.Unmarshal(text, &f); err != nil {
		return f, fmt.Errorf("the vault's founding can't be read: %w", err)
	}
	_, err := f.check()
	return f, err
}

// Write is the text of the file.
func (f Founding) Write() ([]byte, error) {
	text, err := json.MarshalIndent(f, "", "  ")
	return append(text, '\n'), err
}

// ID names the vault: the hash of its beginning. Statements carry it, so that
// none of another vault counts.
func (f Founding) ID() string {
	text, _ := json.Marshal(f) // of texts and octets: can't fail
	return Hash(text)
}

func (f Founding) check() (Officers, error) {
	if f.Format != foundingFormat {
		return nil, fmt.Errorf("the vault's founding: want the format %s", foundingFormat)
	}
	if len(f.Officers) < 2 {
		return nil, errors.New("a vault needs two officers from the beginning: nobody agrees to his own orders")
	}
	all := Officers{}
	for _, o := range f.Officers {
		var err error
		if all, err = all.with(o); err != nil {
			return nil, err
		}
	}
	return all, nil
}
