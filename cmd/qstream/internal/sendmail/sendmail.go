// Package sendmail is what the command of that name does before a message is
// handed over: it understands the options that programs have given it for
// forty years, finds recipients, and adds the header fields that are missing.
//
// It keeps the message as it is otherwise: no address in a header is rewritten.
package sendmail

import (
	"errors"
	"fmt"
	"strings"
)

// Exit codes of sysexits(3).
const (
	Usage       = 64
	DataError   = 65
	Unavailable = 69 // refused for good
	IOError     = 74
	TempFail    = 75
	ConfigError = 78
)

// Mode is what is asked for.
type Mode int

// Modes.
const (
	Deliver Mode = iota // -bm: a message on standard input
	Serve               // -bs: SMTP on standard input and output
	List                // -bp, mailq: what waits
	Nothing             // -bi, newaliases; -q: there is nothing to do
)

// Request is what the command line asks for.
type Request struct {
	Mode        Mode
	ReversePath *string  // -f, -r; nil: the user's
	FullName    string   // -F
	Recipients  []string // as given
	FromHeader  bool     // -t: and those of To, Cc and Bcc
	WholeInput  bool     // -i: a line with nothing but a dot is content
}

// options with a value, in the next argument or in the same: these that mean
// nothing here, besides the known ones.
const (
	valued  = "fFrbBCdhLNOoRVXAD"
	ignored = "BCdhLNORVAD" // body type, settings, debugging, hops, tag, DSN
	bare    = "nUvGEIms"    // no aliases, submission, verbose; and of old
)

// Parse reads arguments. An error is fit for the user.
func Parse(args []string) (Request, error) {
	var r Request
	for len(args) > 0 {
		a := args[0]
		args = args[1:]
		if a == "--" {
			r.Recipients = append(r.Recipients, args...)
			break
		}
		if len(a) < 2 || a[0] != '-' {
			r.Recipients = append(r.Recipients, a)
			continue
		}
		for rest := a[1:]; rest != ""; {
			c := rest[0]
			rest = rest[1:]
			if !strings.Contains(valued, string(c)) {
				done, err := r.flag(c)
				if err != nil {
					return r, err
				}
				if done {
					break // -q30m: what follows belongs to it
				}
				continue
			}
			if rest == "" && !strings.Contains("od", string(c)) {
				if len(args) == 0 {
					return r, fmt.Errorf("-%c wants a value", c)
				}
				rest, args = args[0], args[1:]
			}
			if err := r.value(c, rest); err != nil {
				return r, err
			}
			break
		}
	}
	if r.Mode == Deliver && len(r.Recipients) == 0 && !r.FromHeader {
		return r, errors.New("no recipients: name them, or take those of the header with -t")
	}
	return r, nil
}

// flag is an option without a value; done says that the argument is over.
func (r *Request) flag(c byte) (done bool, err error) {
	switch c {
	case 't':
		r.FromHeader = true
	case 'i':
		r.WholeInput = true
	case 'q':
		r.Mode = Nothing
		return true, nil
	default:
		if !strings.Contains(bare, string(c)) {
			return false, fmt.Errorf("there is no option -%c here", c)
		}
	}
	return false, nil
}

func (r *Request) value(c byte, v string) error {
	switch c {
	case 'f', 'r':
		v = strings.TrimSuffix(strings.TrimPrefix(v, "<"), ">")
		r.ReversePath = &v
	case 'F':
		r.FullName = v
	case 'o':
		// -oi, and settings such as -oem and -odb, which mean nothing here.
		r.WholeInput = r.WholeInput || v == "i"
	case 'X':
		return errors.New("-X: nothing is written to a file of one call; see the ledger, or qstream tail")
	case 'b':
		modes := map[string]Mode{"m": Deliver, "s": Serve, "p": List, "i": Nothing}
		m, ok := modes[v]
		if !ok {
			return fmt.Errorf("-b%s is not done here: roles run by qstream up or a verb of their own, addresses are explained by qstream explain", v)
		}
		r.Mode = m
	default:
		if !strings.Contains(ignored, string(c)) {
			return fmt.Errorf("there is no option -%c here", c)
		}
	}
	return nil
}
