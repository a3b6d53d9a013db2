package lookup

import (
	"context"
	"errors"
	"os"
	"strings"

	"qstream/engine/process"
	"qstream/ingest/policy"
	"qstream/qmail"
)

// program asks whether a mailbox exists, and then about the address without
// its extension.
func (l *Lookup) program(ctx context.Context, c *compiled, q Question, args []string, address string) policy.Answer {
	r := q.Settings.Policy.Recipients
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	if !c.turn(ctx) {
		l.log.Info("no turn in time", "stage", "ingest", "question", "recipient program")
		return policy.Fault
	}
	defer c.leave()
	a := l.run(ctx, r.Home, args, q.Env(), address)
	if base, ok := qmail.Extension(address); ok && a == policy.No {
		a = l.run(ctx, r.Home, args, q.Env(), base)
	}
	return a
}

// run speaks checkpassword's protocol as recipient checks do: the address and
// three NULs on descriptor 3. It exits 0 for yes, 1 for no; all else is no
// answer. Its other descriptors lead nowhere.
func (l *Lookup) run(ctx context.Context, home string, args, env []string, address string) policy.Answer {
	name := args[0]
	if strings.Contains(name, "/") {
		name = from(home, name)
	}
	r, err := process.Run(ctx, process.Program{Path: name, Args: args[1:], Env: append([]string{"PATH=" + os.Getenv("PATH")}, env...),
		Three: []byte(address + "\x00\x00\x00"), Mute: true})
	switch {
	case err == nil && r.Code == 0:
		return policy.Yes
	case err == nil && r.Code == 1:
		return policy.No
	case err == nil:
		err = errors.New(r.String())
	}
	l.log.Warn("recipient program gave no answer", "stage", "ingest", "path", name, "err", err)
	return policy.Fault
}
