// Package engines makes the engine of a specification, whatever its type.
//
// Guarantee: New connects to nothing and starts nothing.
package engines

import (
	"fmt"

	"qstream/engine"
	"qstream/engine/clamd"
	"qstream/engine/icap"
	"qstream/engine/milter"
	"qstream/engine/rspamd"
	"qstream/engine/unpack"
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
	switch s.Type {
	case engine.TypeClamd:
		return opened(clamd.New(clamd.Config{
			Name: s.Name, Network: s.Network, Address: s.Address, Connect: s.Connect, Patience: s.Patience, MaxSize: s.MaxSize,
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
			Name: s.Name, Depth: s.Depth, Parts: s.Parts, Member: s.Member, Total: s.Total, Time: s.Time,
		}))
	}
	return nil, fmt.Errorf("type %q can't be made", s.Type)
}

// opened turns a typed nil into none.
func opened[E engine.Engine](e E, err error) (engine.Engine, error) {
	if err != nil {
		return nil, err
	}
	return e, nil
}
