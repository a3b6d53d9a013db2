package lookup

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"qstream/directory"
	"qstream/ingest/policy"
	"qstream/mail"
)

// callout asks a host whether it would take mail for a mailbox.
func (l *Lookup) callout(ctx context.Context, c *compiled, r *directory.RecipientCheck, address string) policy.Answer {
	key := r.Callout + " " + address
	if a := l.known.get(key); a != policy.Unknown {
		return a
	}
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	if !c.turn(ctx) {
		l.log.Info("no turn in time", "stage", "ingest", "question", "recipient callout")
		return policy.Fault
	}
	defer c.leave()
	if a := l.known.get(key); a != policy.Unknown { // found out while this one waited
		return a
	}
	a, err := l.converse(ctx, r.Callout, address)
	switch a {
	case policy.Yes:
		l.known.put(key, a, r.AcceptFor)
	case policy.No:
		l.known.put(key, a, r.RejectFor)
	default:
		l.log.Warn("recipient callout gave no answer", "stage", "ingest", "host", r.Callout, "err", err)
	}
	return a
}

// maxDialogue bounds what a host may say in a callout.
const maxDialogue = 64 << 10

// converse sends MAIL FROM:<> and RCPT. Only RCPT's reply says something about
// the mailbox.
func (l *Lookup) converse(ctx context.Context, host, address string) (policy.Answer, error) {
	nc, err := dial(ctx, host)
	if err != nil {
		return policy.Fault, err
	}
	defer nc.Close()
	if end, ok := ctx.Deadline(); ok {
		if err := nc.SetDeadline(end); err != nil {
			return policy.Fault, err
		}
	}
	defer context.AfterFunc(ctx, func() { nc.Close() })()
	in := bufio.NewReaderSize(io.LimitReader(nc, maxDialogue), 1024)
	code := 0
	for _, command := range []string{"", "EHLO " + l.cfg.Hostname, "MAIL FROM:<>", "RCPT TO:<" + address + ">"} {
		if code, err = say(nc, in, command); err != nil {
			return policy.Fault, fmt.Errorf("%.4s: %w", command, err)
		}
		if command == "EHLO "+l.cfg.Hostname && code >= 500 {
			if code, err = say(nc, in, "HELO "+l.cfg.Hostname); err != nil {
				return policy.Fault, fmt.Errorf("HELO: %w", err)
			}
		}
		if code/100 != 2 && command[:min(4, len(command))] != "RCPT" {
			return policy.Fault, fmt.Errorf("%.4s was answered %d", command, code)
		}
	}
	_, _ = io.WriteString(nc, "QUIT\r\n") // politeness; the answer is there
	switch code / 100 {
	case 2:
		return policy.Yes, nil
	case 5:
		return policy.No, nil
	}
	return policy.Fault, fmt.Errorf("RCPT was answered %d", code)
}

// say sends a command, "" for none, and reads the reply's code.
func say(w io.Writer, in *bufio.Reader, command string) (code int, err error) {
	if command != "" {
		if _, err := io.WriteString(w, command+"\r\n"); err != nil {
			return 0, err
		}
	}
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		if len(line) < 4 {
			return 0, fmt.Errorf("no reply: %s", mail.Printable(string(line)))
		}
		if code, err = strconv.Atoi(string(line[:3])); err != nil || code < 200 || code > 599 {
			return 0, fmt.Errorf("no reply: %s", mail.Printable(string(line)))
		}
		if line[3] != '-' {
			return code, nil
		}
	}
}

// maxKnown bounds what is remembered of callouts.
const maxKnown = 100_000

// memory remembers answers for a time.
type memory struct {
	now func() time.Time
	mu  sync.Mutex
	all map[string]remembered
}

type remembered struct {
	answer policy.Answer
	until  time.Time
}

func newMemory(now func() time.Time) *memory {
	return &memory{now: now, all: map[string]remembered{}}
}

// get is Unknown for what isn't remembered.
func (m *memory) get(key string) policy.Answer {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.all[key]
	if !ok || !m.now().Before(r.until) {
		return policy.Unknown
	}
	return r.answer
}

// put makes room, if there is none, by forgetting what is over or else any.
func (m *memory) put(key string, a policy.Answer, hold time.Duration) {
	if hold <= 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	if len(m.all) >= maxKnown {
		looked := 0
		for k, r := range m.all {
			if looked++; !now.Before(r.until) || looked > 100 {
				delete(m.all, k)
			}
			if looked > 200 {
				break
			}
		}
	}
	m.all[key] = remembered{a, now.Add(hold)}
}
