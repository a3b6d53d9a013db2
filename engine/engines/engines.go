// Package engines makes the engine of a specification, whatever its type.
//
// Guarantee: New connects to nothing and starts nothing.
package engines

import (
	"fmt"

	"qstream/engine"
	"qstream/engine/badtypes"
	"qstream/engine/clamd"
	"qstream/engine/command"
	"qstream/engine/icap"
	"qstream/engine/milter"
	"qstream/engine/process"
	"qstream/engine/rspamd"
	"qstream/engine/unpack"
	"qstream/engine/wrapper"
)

// New makes an engine. A type that this version can't make, or a setting that
// it refuses, is an error. The caller closes the engine.
func New(s engine.Spec) (engine.Engine, error) {
	e, err := made(s)
	if err != nil {
		return nil, fmt.Errorf("engine %s: %w", s.Name, err)
	}
	return e, nil
}

func made(s engine.Spec) (engine.Engine, error) {
	program, args := split(s.Program)
	switch s.Type {
	case engine.TypeClamd:
		return opened(clamd.New(clamd.Config{
			Name: s.Name, Network: s.Network, Address: s.Address, Connect: s.Connect, Patience: s.Patience, MaxSize: s.MaxSize,
			Parts: !s.Whole, Dir: s.Dir,
		}))
	case engine.TypeRspamd:
		return opened(rspamd.New(rspamd.Config{
			Name: s.Name, Network: s.Network, Address: s.Address, Connect: s.Connect, Patience: s.Patience, MaxSize: s.MaxSize,
		}))
	case engine.TypeMilter:
		return opened(milter.New(milter.Config{
			Name: s.Name, Network: s.Network, Address: s.Address, Hostname: s.Hostname, Connect: s.Connect, Patience: s.Patience,
		}))
	case engine.TypeICAP:
		return opened(icap.New(icap.Config{
			Name: s.Name, Network: s.Network, Address: s.Address, Service: s.Service, Method: s.Method, Preview: s.Preview,
			Connect: s.Connect, Patience: s.Patience, MaxSize: s.MaxSize,
		}))
	case engine.TypeUnpack:
		return opened(unpack.New(unpack.Config{
			Name: s.Name, Depth: s.Depth, Parts: s.Parts, Member: s.Member, Total: s.Total, Time: s.Time, Dir: s.Dir,
		}))
	case engine.TypeCommand:
		return opened(command.New(command.Config{
			Name: s.Name, Program: program, Args: args, Code: s.Code, MinSize: s.MinSize, MaxSize: s.MaxSize,
			Base64: s.Base64, Outside: s.Outside, Env: s.Env, Time: s.Patience, Dir: s.Dir, Limits: limits(s),
		}))
	case engine.TypeWrapper:
		return opened(wrapper.New(wrapper.Config{
			Name: s.Name, Program: program, Args: args, Home: s.Home, Queue: s.Queue, Env: s.Env,
			Discards: s.Discards, Time: s.Patience, Dir: s.Dir, Limits: limits(s),
		}))
	case engine.TypeTypes:
		return opened(badtypes.New(badtypes.Config{
			Name: s.Name, MIME: s.MIMETypes, MIMEFile: s.MIMETypesFile, Loaders: s.LoaderTypes, LoadersFile: s.LoaderTypesFile,
			Blanks: s.Blanks,
		}))
	}
	return nil, fmt.Errorf("type %q can't be made", s.Type)
}

func limits(s engine.Spec) process.Limits {
	return process.Limits{CPU: s.CPU, Memory: s.MaxMemory, FileSize: s.MaxFile, Files: s.MaxFiles}
}

func split(program []string) (path string, args []string) {
	if len(program) == 0 {
		return "", nil
	}
	return program[0], program[1:]
}

// opened turns a typed nil into none.
func opened[E engine.Engine](e E, err error) (engine.Engine, error) {
	if err != nil {
		return nil, err
	}
	return e, nil
}
