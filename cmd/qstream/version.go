package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
)

// release is set at link time by the release build (-X main.release=v1.2.3).
var release = ""

type versionCmd struct{}

func (versionCmd) Run(_ context.Context, p *Process) error {
	_, err := fmt.Fprintf(p.Stdout, "qstream %s %s %s/%s\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

// version is the release, or else the commit that was built.
func version() string {
	if release != "" {
		return release
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	revision, dirty := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && len(s.Value) >= 12:
			revision = "-" + s.Value[:12]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "+changes"
		}
	}
	return "dev" + revision + dirty
}
