package docket

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"qstream/tapper/vault/order"
	"qstream/tapper/vault/sealed"
)

// Folder is a vault's folder, as every tapper of the vault has it: keys, and how
// the vault began. Who can read it can read everything; nobody else but its owner
// may.
type Folder struct {
	Dir      string
	Keys     *sealed.Keys
	Founding order.Founding
}

const (
	foundingName = "founding.json"
	socketName   = "office.sock"
)

// Socket is where the tapper of a vault's folder listens.
func Socket(dir string) string { return filepath.Join(dir, socketName) }

// Found makes a vault in a new or empty folder, with its first officers.
func Found(dir string, first ...order.Officer) (Folder, error) {
	f, err := order.Found(first...)
	if err != nil {
		return Folder{}, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Folder{}, fmt.Errorf("make the vault: %w", err)
	}
	there, err := os.ReadDir(dir)
	if err != nil {
		return Folder{}, fmt.Errorf("make the vault: %w", err)
	}
	if len(there) > 0 {
		return Folder{}, fmt.Errorf("make the vault: %s is not empty", dir)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return Folder{}, fmt.Errorf("make the vault: %w", err)
	}
	if _, err := sealed.AddKey(dir); err != nil {
		return Folder{}, err
	}
	text, err := f.Write()
	if err != nil {
		return Folder{}, fmt.Errorf("make the vault: %w", err)
	}
	if err := write(filepath.Join(dir, foundingName), text); err != nil {
		return Folder{}, fmt.Errorf("make the vault: %w", err)
	}
	return Open(dir)
}

// write makes a file that is on the disk when it returns.
func write(name string, text []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}

// Open reads a vault's folder, and refuses one that others than its owner can
// look into.
func Open(dir string) (Folder, error) {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Folder{}, fmt.Errorf("there is no vault in %s; make one by: qstream tap init, or copy the folder of another tapper", dir)
	case err != nil:
		return Folder{}, fmt.Errorf("open the vault: %w", err)
	case !info.IsDir() || info.Mode().Perm()&0o077 != 0:
		return Folder{}, fmt.Errorf("open the vault: %s: want a folder that only its owner may look into (mode 0700)", dir)
	}
	keys, err := sealed.ReadKeys(dir)
	if err != nil {
		return Folder{}, err
	}
	text, err := os.ReadFile(filepath.Join(dir, foundingName))
	if errors.Is(err, fs.ErrNotExist) {
		return Folder{}, fmt.Errorf("open the vault: %s has no %s, which says how it began; copy that from the folder of another tapper of this vault", dir, foundingName)
	}
	if err != nil {
		return Folder{}, fmt.Errorf("open the vault: %w", err)
	}
	f, err := order.ReadFounding(text)
	if err != nil {
		return Folder{}, err
	}
	return Folder{Dir: dir, Keys: keys, Founding: f}, nil
}
