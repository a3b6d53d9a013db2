package rig

import (
	"os"
	"path/filepath"
	"strings"
)

// DropIns makes links to the binary by the names of the programs that it
// stands in for, and returns the environment in which they find the system.
func (s *System) DropIns(dir string) (env []string, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	for _, name := range []string{"qmail-queue", "qmail-qmqpc", "sendmail", "mailq"} {
		if err := os.Symlink(s.binary, filepath.Join(dir, name)); err != nil {
			return nil, err
		}
	}
	env = []string{"QSTREAM_SERVERS=" + s.QMQP, "QSTREAM_SMTP=" + s.SMTP}
	where := s.locate([]string{"queue", "list"})
	for i := 0; i+1 < len(where); i += 2 {
		env = append(env, "QSTREAM_"+strings.ToUpper(strings.TrimPrefix(where[i], "--"))+"="+where[i+1])
	}
	return env, nil
}
