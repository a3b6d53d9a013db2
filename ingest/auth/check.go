package auth

import (
	"errors"
	"fmt"

	"qstream/directory"
	"qstream/directory/password"
)

// password checks a user's password and notes who it is.
func (x *Exchange) password(user, given string) error {
	x.checked = true
	a := x.a
	snap := a.deps.Snapshot()
	if snap == nil {
		return errors.New("no directory")
	}
	name, err := directory.NormalUser(user)
	prepared, unfit := password.Prepare(given)
	if err != nil || unfit != nil {
		return fmt.Errorf("%w: not in form", ErrRejected)
	}
	u := snap.Credential(name)
	if u != nil {
		x.failed = name
	}
	vouched := false
	switch {
	case u != nil && (u.Password != nil || u.SCRAM != nil):
		err = x.check(u, prepared)
	case len(a.cfg.Program) > 0:
		vouched, err = true, x.ask(user, given)
	default:
		// Who doesn't exist waits for a turn as others do.
		err = a.checks.take(x.ctx, password.Memory, func() {})
		if err == nil {
			err = fmt.Errorf("%w: no such user", ErrRejected)
		}
	}
	if err != nil {
		return err
	}
	if u != nil && !u.Admits(x.client.Addr) {
		return fmt.Errorf("%w: not admitted", ErrRejected)
	}
	x.who = Identity{User: name, Vouched: vouched}
	return nil
}

// check compares a password with the directory's, when it is its turn.
func (x *Exchange) check(u *directory.Credential, prepared string) error {
	stored, memory, matches := "", uint32(64), func() bool { return false }
	if u.Password != nil {
		stored, memory = u.Password.String(), u.Password.Memory
		matches = func() bool { return u.Password.Matches(prepared) }
	} else {
		stored = u.SCRAM.String()
		matches = func() bool { return u.SCRAM.Matches(prepared) }
	}
	now := x.a.deps.Now()
	if x.a.known.has(stored, prepared, now) {
		return nil
	}
	ok := false
	if err := x.a.checks.take(x.ctx, memory, func() { ok = matches() }); err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%w: wrong password", ErrRejected)
	}
	x.a.known.add(stored, prepared, now)
	return nil
}
