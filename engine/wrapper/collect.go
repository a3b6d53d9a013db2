package wrapper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"qstream/engine"
)

// FolderVariable is the variable by which the drop-in for qmail-queue knows
// that a wrapper calls it: the folder of the scan.
const FolderVariable = "QSTREAM_WRAPPED"

// Files in that folder.
const (
	handedMessage  = "handed"
	handedEnvelope = "handed.envelope"
	handedAgain    = "again"
)

// maxAdded is how much longer a message may have become.
const maxAdded = 1 << 20

var (
	// ErrMessage is a message that can't be read to its end.
	ErrMessage = errors.New("read the message")
	errAgain   = errors.New("this message was passed on before")
	errLonger  = fmt.Errorf("the message has become more than %d bytes longer", maxAdded)
)

// Collect takes the message that a wrapper passes on; the envelope is asked for
// when it has been read, as qmail-queue does. After nil the engine knows of it.
// What it isn't able to take leaves nothing behind, so that the wrapper may try
// again.
func Collect(folder string, message io.Reader, envelope func() (from string, to []string, err error)) error {
	out, err := os.OpenFile(filepath.Join(folder, handedMessage), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return errors.Join(errAgain, os.WriteFile(filepath.Join(folder, handedAgain), nil, 0o600))
	}
	if err != nil {
		return fmt.Errorf("keep the message: %w", err)
	}
	err = collect(folder, out, message, envelope)
	if err != nil {
		_ = os.Remove(out.Name())
	}
	return err
}

func collect(folder string, out *os.File, message io.Reader, ask func() (string, []string, error)) error {
	defer out.Close()
	original, err := os.Stat(filepath.Join(folder, "message"))
	if err != nil {
		return fmt.Errorf("keep the message: %w", err)
	}
	most := original.Size() + maxAdded
	from := engine.NewContent(io.LimitReader(message, most+1))
	n, err := io.Copy(out, from)
	switch {
	case from.Err() != nil:
		return fmt.Errorf("%w: %w", ErrMessage, from.Err())
	case err != nil:
		return fmt.Errorf("keep the message: %w", err)
	case n > most:
		return errLonger
	}
	sender, to, err := ask()
	if err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return fmt.Errorf("keep the message: %w", err)
	}
	if err := os.WriteFile(filepath.Join(folder, handedEnvelope), []byte(envelope(sender, to)), 0o600); err != nil {
		return fmt.Errorf("keep the envelope: %w", err)
	}
	return nil
}

// passed judges what a wrapper passed on that exited with 0.
func (e *Engine) passed(ctx context.Context, folder, path, sent string) (engine.Verdict, error) {
	got, err := os.ReadFile(filepath.Join(folder, handedEnvelope))
	if errors.Is(err, fs.ErrNotExist) {
		if e.cfg.Discards {
			return engine.Verdict{Outcome: engine.Refused, Advice: engine.Discard, Detail: "nothing was passed on"}, nil
		}
		return engine.Verdict{}, engine.Fail(engine.Broken, "exit code 0, but nothing was passed on to %s", e.cfg.Queue)
	}
	if err != nil {
		return engine.Verdict{}, engine.Fail(engine.Trouble, "read what was passed on: %w", err)
	}
	if _, err := os.Lstat(filepath.Join(folder, handedAgain)); !errors.Is(err, fs.ErrNotExist) {
		return engine.Verdict{}, engine.Fail(engine.Broken, "more than one message was passed on")
	}
	if !slices.Equal(parties(sent), parties(string(got))) {
		return engine.Verdict{}, engine.Fail(engine.Broken, "the envelope was changed")
	}
	changes, err := compare(ctx, path, filepath.Join(folder, handedMessage))
	return engine.Verdict{Outcome: engine.Clean, Changes: changes}, err
}

// parties are the addresses of an envelope, the recipients in an order of their
// own.
func parties(envelope string) []string {
	all := strings.Split(envelope, "\x00")
	slices.Sort(all[1:])
	return all
}
