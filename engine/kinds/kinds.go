// Package kinds makes an engine of what the directory says of it. Adding an
// engine is its own folder and one case here.
package kinds

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

// New makes the engine; it starts and opens nothing.
func New(s engine.Spec) (engine.Engine, error) {
	e, err := construct(s)
	if err != nil {
		return nil, fmt.Errorf("engine %s: %w", s.Name, err)
	}
	return e, nil
}

// construct is the one switch over types.
func construct(s engine.Spec) (engine.Engine, error) {
	limits := process.Limits{CPU: s.CPU, Memory: s.MaxMemory, FileSize: s.MaxFile, Files: s.MaxFiles}
	program, args := split(s.Program)
	switch s.Type {
	case engine.TypeClamd:
		return clamd.New(clamd.Config{Name: s.Name, Network: s.Network, Address: s.Address,
			Connect: s.Connect, Patience: s.Patience, MaxSize: s.MaxSize})
	case engine.TypeRspamd:
		return rspamd.New(rspamd.Config{Name: s.Name, Network: s.Network, Address: s.Address,
			Connect: s.Connect, Patience: s.Patience, MaxSize: s.MaxSize})
	case engine.TypeMilter:
		return milter.New(milter.Config{Name: s.Name, Network: s.Network, Address: s.Address, Hostname: s.Hostname,
			Connect: s.Connect, Patience: s.Patience})
	case engine.TypeICAP:
		return icap.New(icap.Config{Name: s.Name, Network: s.Network, Address: s.Address, Service: s.Service, Method: s.Method,
			Preview: s.Preview, Connect: s.Connect, Patience: s.Patience, MaxSize: s.MaxSize})
	case engine.TypeUnpack:
		return unpack.New(unpack.Config{Name: s.Name, Depth: s.Depth, Parts: s.Parts, Member: s.Member, Total: s.Total,
			Time: s.Time, Dir: s.Dir})
	case engine.TypeCommand:
		return command.New(command.Config{Name: s.Name, Program: program, Args: args, Code: s.Code, MinSize: s.MinSize,
			MaxSize: s.MaxSize, Base64: s.Base64, Outside: s.Outside, Env: s.Env, Time: s.Patience, Dir: s.Dir, Limits: limits})
	case engine.TypeWrapper:
		return wrapper.New(wrapper.Config{Name: s.Name, Program: program, Args: args, Home: s.Home, Queue: s.Queue, Env: s.Env,
			Discards: s.Discards, Time: s.Patience, Dir: s.Dir, Limits: limits})
	case engine.TypeTypes:
		return badtypes.New(badtypes.Config{Name: s.Name, MIME: s.MIMETypes, MIMEFile: s.MIMETypesFile,
			Loaders: s.LoaderTypes, LoadersFile: s.LoaderTypesFile, Blanks: s.Blanks})
	}
	return nil, fmt.Errorf("no engine of type %q", s.Type)
}

func split(program []string) (path string, args []string) {
	if len(program) == 0 {
		return "", nil
	}
	return program[0], program[1:]
}
