package engine

import (
	"fmt"
	"reflect"
	"time"
)

// Types of engines.
const (
	TypeClamd   = "clamd"
	TypeRspamd  = "rspamd"
	TypeMilter  = "milter"
	TypeICAP    = "icap"
	TypeUnpack  = "unpack"
	TypeCommand = "command"
	TypeWrapper = "wrapper"
	TypeTypes   = "types"
)

// Types are all there are.
var Types = []string{TypeClamd, TypeRspamd, TypeMilter, TypeICAP, TypeUnpack, TypeCommand, TypeWrapper, TypeTypes}

// Spec is what an engine is made of. What a type has no use for is zero, and so
// is what it takes a default for.
type Spec struct {
	Name    string // in verdicts, logs and metrics
	Type    string
	Network string // of clamd, rspamd, milter and icap: "tcp" or "unix"
	Address string // host and port, or the socket's path

	Connect  time.Duration // for a connection
	Patience time.Duration // for each piece of the dialogue
	MaxSize  int64         // bytes; larger mail is unscannable without being sent

	Service  string // of icap: the path
	Whole    bool   // of clamd: a message's parts are not looked at one by one, too
	Method   string // of icap: RESPMOD or REQMOD
	Preview  int    // of icap: bytes
	Hostname string // of milter: our name, macro j

	// Of unpack.
	Depth, Parts  int
	Member, Total int64 // bytes
	Time          time.Duration

	// Of command and wrapper: an absolute path and its arguments, and variables
	// "NAME=value" beyond those of every message.
	Program []string
	Env     []string
	// Of command: s/qmail's QHPSIRC, QHPSIMINSIZE and BASE64 (MaxSize is
	// QHPSIMAXSIZE), and what becomes of mail that these leave out:
	// "unscannable", the default, or "clean".
	Code    int
	MinSize int64
	Base64  bool
	Outside string
	// Of wrapper: the folder that it runs in; what stands in for qmail-queue;
	// whether exit code 0 with nothing passed on means that the mail is dropped.
	Home, Queue string
	Discards    bool
	// Of command and wrapper: what a program may use; 0: no limit.
	CPU                time.Duration
	MaxMemory, MaxFile int64
	MaxFiles           int

	// Of types: lists in qmail's format, as text or as absolute path.
	MIMETypes, MIMETypesFile     string
	LoaderTypes, LoaderTypesFile string
	// Of types: blanks within the lines of base64 are refused, too.
	Blanks bool

	// Dir is where clamd, unpack, command and wrapper keep files while they scan;
	// empty: the system's temporary folder.
	Dir string
}

// Settings are the fields that are set, "Name=value", in their order: two that
// have the same ones make the same engine. A setting that engines get one day
// changes nothing where it isn't used.
func (s Spec) Settings() []string {
	var set []string
	v := reflect.ValueOf(s)
	for i := range v.NumField() {
		if f := v.Field(i); !f.IsZero() {
			set = append(set, fmt.Sprintf("%s=%#v", v.Type().Field(i).Name, f.Interface()))
		}
	}
	return set
}

// ContentOnly reports whether a type's verdicts depend on nothing but the
// content and the signatures in force: one then holds for every envelope.
func ContentOnly(typ string) bool {
	switch typ {
	case TypeClamd, TypeICAP, TypeUnpack, TypeCommand, TypeTypes:
		return true
	}
	return false
}
