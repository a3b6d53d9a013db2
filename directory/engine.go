package directory

import (
	"errors"
	"fmt"
	"net"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"qstream/engine"
	"qstream/qmail"
)

// Engine is a scanner of mail that policies may ask.
type Engine struct {
	engine.Spec
	Deadline    time.Duration // longest scan of a message; default 1 min
	PerMegabyte time.Duration // added to Deadline for each MiB of the message; default 2 s
	Concurrency int           // scans at once, of each scanner process; default 8
	Keep        time.Duration // for which a verdict serves other mail with the same content; 0: never; default 10 min
	MaxAge      time.Duration // of clamd's official signatures, above which an alarm is raised; 0: none; default 3 d
}

// Limit is how long the scan of so many bytes may take.
func (e *Engine) Limit(size int64) time.Duration {
	return e.Deadline + time.Duration(float64(e.PerMegabyte)*float64(max(size, 0))/(1<<20))
}

func newEngine() *Engine {
	return &Engine{Deadline: time.Minute, PerMegabyte: 2 * time.Second, Concurrency: 8, Keep: 10 * time.Minute, MaxAge: 72 * time.Hour}
}

const maxScanned = 1 << 40 // bytes

var engineKeys = []key[Engine]{
	{"kind", func(_ *Engine, v *value) { v.text() }},
	{"name", func(e *Engine, v *value) { e.Name = parsed(v, parseName) }},
	{"type", func(e *Engine, v *value) { e.Type = v.oneOf(engine.Types...) }},
	{"address", func(e *Engine, v *value) { e.Network, e.Address = parseEngineAddress(v) }},
	{"deadline", func(e *Engine, v *value) { e.Deadline = v.duration(time.Second, time.Hour) }},
	{"per_megabyte", func(e *Engine, v *value) { e.PerMegabyte = v.duration(0, time.Minute) }},
	{"concurrency", func(e *Engine, v *value) { e.Concurrency = int(v.integer(1, 1000)) }},
	{"keep", func(e *Engine, v *value) { e.Keep = v.duration(0, 24*time.Hour) }},
	{"max_age", func(e *Engine, v *value) { e.MaxAge = v.duration(0, 365*24*time.Hour) }},
	{"connect", func(e *Engine, v *value) { e.Connect = v.duration(time.Second, time.Minute) }},
	{"patience", func(e *Engine, v *value) { e.Patience = v.duration(time.Second, time.Hour) }},
	{"max_size", func(e *Engine, v *value) { e.MaxSize = v.integer(1, maxScanned) }},
	{"parts", func(e *Engine, v *value) { e.Whole = !v.boolean() }},
	{"service", func(e *Engine, v *value) { e.Service = v.text() }},
	{"method", func(e *Engine, v *value) { e.Method = v.oneOf("RESPMOD", "REQMOD") }},
	{"preview", func(e *Engine, v *value) { e.Preview = int(v.integer(1, 1<<20)) }},
	{"hostname", func(e *Engine, v *value) { e.Hostname = parsed(v, parseDomain) }},
	{"limits", func(e *Engine, v *value) { nested(v, e, unpackKeys) }},
	{"program", func(e *Engine, v *value) {
		v.list(maxProgram, func(a *value) { e.Program = append(e.Program, a.text()) })
		if len(e.Program) > 0 && !path.IsAbs(e.Program[0]) {
			v.fail("%q is no absolute path", e.Program[0])
		}
	}},
	{"bad_mime_types", func(e *Engine, v *value) {
		s := sourceOf(v, qmail.ParseMIMETypes)
		e.MIMETypes, e.MIMETypesFile = s.Text, s.File
	}},
	{"bad_loader_types", func(e *Engine, v *value) {
		s := sourceOf(v, qmail.ParseLoaderTypes)
		e.LoaderTypes, e.LoaderTypesFile = s.Text, s.File
	}},
	{"blanks", func(e *Engine, v *value) { e.Blanks = v.boolean() }},
	{"env", func(e *Engine, v *value) {
		v.list(maxProgram, func(a *value) { e.Env = append(e.Env, parseVariable(a)) })
	}},
	{"exit_code", func(e *Engine, v *value) { e.Code = int(v.integer(1, 255)) }},
	{"min_size", func(e *Engine, v *value) { e.MinSize = v.integer(0, maxScanned) }},
	{"base64", func(e *Engine, v *value) { e.Base64 = v.boolean() }},
	{"outside", func(e *Engine, v *value) { e.Outside = v.oneOf("unscannable", "clean") }},
	{"home", func(e *Engine, v *value) { e.Home = absolute(v) }},
	{"qmail_queue", func(e *Engine, v *value) { e.Queue = absolute(v) }},
	{"discards", func(e *Engine, v *value) { e.Discards = v.boolean() }},
	{"use", func(e *Engine, v *value) { nested(v, e, useKeys) }},
	{"folder", func(e *Engine, v *value) { e.Dir = absolute(v) }},
}

// useKeys are what a program may use.
var useKeys = []key[Engine]{
	{"cpu", func(e *Engine, v *value) { e.CPU = v.duration(time.Second, time.Hour) }},
	{"memory", func(e *Engine, v *value) { e.MaxMemory = v.integer(1<<20, maxScanned) }},
	{"file", func(e *Engine, v *value) { e.MaxFile = v.integer(1<<10, maxScanned) }},
	{"files", func(e *Engine, v *value) { e.MaxFiles = int(v.integer(16, 1<<20)) }},
}

func absolute(v *value) string {
	s := v.text()
	if !path.IsAbs(s) {
		v.fail("%q is no absolute path", s)
	}
	return s
}

// parseVariable reads NAME=value.
func parseVariable(v *value) string {
	s := v.text()
	if name, _, ok := strings.Cut(s, "="); !ok || name == "" || strings.ContainsAny(s, "\x00\n") {
		v.fail("%q is no variable: write NAME=value", s)
	}
	return s
}

const maxProgram = 64 // a program and its arguments

var unpackKeys = []key[Engine]{
	{"depth", func(e *Engine, v *value) { e.Depth = int(v.integer(1, 100)) }},
	{"parts", func(e *Engine, v *value) { e.Parts = int(v.integer(1, 1_000_000)) }},
	{"member", func(e *Engine, v *value) { e.Member = v.integer(1, maxScanned) }},
	{"total", func(e *Engine, v *value) { e.Total = v.integer(1, maxScanned) }},
	{"time", func(e *Engine, v *value) { e.Time = v.duration(time.Second, time.Hour) }},
}

// parseEngineAddress reads tcp://host:port and unix:/path.
func parseEngineAddress(v *value) (network, address string) {
	s := v.text()
	if p, ok := strings.CutPrefix(s, "unix:"); ok {
		if !path.IsAbs(p) {
			v.fail("%q: a socket has an absolute path", s)
		}
		return "unix", path.Clean(p)
	}
	hostPort, ok := strings.CutPrefix(s, "tcp://")
	host, port, err := net.SplitHostPort(hostPort)
	if !ok || err != nil {
		v.fail("%q is no address: write tcp://host:port or unix:/path", s)
		return "", ""
	}
	if n, e := strconv.Atoi(port); e != nil || n < 1 || n > 65535 {
		err = errors.New("port " + port + " is not in 1 to 65535")
	} else {
		host, err = parseHost(host)
	}
	if err != nil {
		v.fail("%q: %s", s, err)
	}
	return "tcp", net.JoinHostPort(host, port)
}

// engineNeeds are the keys that a type of engine can't do without, and those
// that only some have.
var engineNeeds = map[string][]string{
	engine.TypeClamd: {"address"}, engine.TypeRspamd: {"address"}, engine.TypeMilter: {"address"},
	engine.TypeICAP: {"address", "service"}, engine.TypeUnpack: nil,
	engine.TypeCommand: {"program"}, engine.TypeWrapper: {"program"}, engine.TypeTypes: nil,
}

var engineHas = map[string][]string{
	"address":          {engine.TypeClamd, engine.TypeRspamd, engine.TypeMilter, engine.TypeICAP},
	"keep":             {engine.TypeClamd, engine.TypeICAP, engine.TypeUnpack, engine.TypeTypes},
	"max_age":          {engine.TypeClamd},
	"connect":          {engine.TypeClamd, engine.TypeRspamd, engine.TypeMilter, engine.TypeICAP},
	"patience":         {engine.TypeClamd, engine.TypeRspamd, engine.TypeMilter, engine.TypeICAP, engine.TypeCommand, engine.TypeWrapper},
	"max_size":         {engine.TypeClamd, engine.TypeRspamd, engine.TypeICAP, engine.TypeCommand},
	"parts":            {engine.TypeClamd},
	"service":          {engine.TypeICAP},
	"method":           {engine.TypeICAP},
	"preview":          {engine.TypeICAP},
	"hostname":         {engine.TypeMilter},
	"limits":           {engine.TypeUnpack},
	"program":          {engine.TypeCommand, engine.TypeWrapper},
	"bad_mime_types":   {engine.TypeTypes},
	"bad_loader_types": {engine.TypeTypes},
	"blanks":           {engine.TypeTypes},
	"env":              {engine.TypeCommand, engine.TypeWrapper},
	"use":              {engine.TypeCommand, engine.TypeWrapper},
	"exit_code":        {engine.TypeCommand},
	"min_size":         {engine.TypeCommand},
	"base64":           {engine.TypeCommand},
	"outside":          {engine.TypeCommand},
	"home":             {engine.TypeWrapper},
	"qmail_queue":      {engine.TypeWrapper},
	"discards":         {engine.TypeWrapper},
	"folder":           {engine.TypeClamd, engine.TypeUnpack, engine.TypeCommand, engine.TypeWrapper},
}

// completeEngine checks what belongs together.
func (r *reading) completeEngine(e *Engine, body ast.Node) {
	if e.Type == "" {
		r.fail(body, "type is missing")
		return
	}
	for _, key := range engineNeeds[e.Type] {
		if _, ok := r.lines[key]; !ok {
			r.fail(body, "%s is missing: an engine of type %s needs it", key, e.Type)
		}
	}
	for _, k := range engineKeys {
		types, some := engineHas[k.name]
		if _, given := r.lines[k.name]; given && some && !slices.Contains(types, e.Type) {
			r.fail(body, "%s is not for an engine of type %s, but for %s", k.name, e.Type, strings.Join(types, ", "))
		}
	}
	if e.Type == engine.TypeCommand && len(e.Program) > 4 {
		r.fail(body, "program has %d arguments: the message's file is followed by up to three", len(e.Program)-1)
	}
	if e.Type != engine.TypeClamd { // nobody else has signatures with a date
		e.MaxAge = 0
	}
	if e.MinSize > e.MaxSize && e.MaxSize > 0 {
		r.fail(body, "min_size %d is larger than max_size %d", e.MinSize, e.MaxSize)
	}
	if e.Type == engine.TypeTypes && e.MIMETypes+e.MIMETypesFile+e.LoaderTypes+e.LoaderTypesFile == "" {
		r.fail(body, "an engine of type %s needs bad_mime_types or bad_loader_types", e.Type)
	}
}

// Engine finds an engine by name; nil if none.
func (s *Snapshot) Engine(name string) *Engine { return s.engines[name] }

// String is "clamd at tcp 127.0.0.1:3310".
func (e *Engine) String() string {
	if e.Address == "" {
		return e.Type
	}
	return fmt.Sprintf("%s at %s %s", e.Type, e.Network, e.Address)
}
